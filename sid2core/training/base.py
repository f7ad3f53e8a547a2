"""Base training: the denoising objective and its update, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sid2core import config, rng
from sid2core.conditioning import Condition
from sid2core.config import build
from sid2core.data.load.loader import Batch, Loader
from sid2core.data.load.pixels import to_unit
from sid2core.diffusion import parametrisation
from sid2core.diffusion.losses import Noised, TrainingLoss
from sid2core.diffusion.noise import standard_normal
from sid2core.diffusion.schedule import Schedule
from sid2core.diffusion.times import antithetic_times
from sid2core.models import cost
from sid2core.models.dropout import DropoutKey, PartKey
from sid2core.models.network import Network, Parameters
from sid2core.training import accumulation, ema, optimiser, skip_nonfinite
from sid2core.training.accumulation import Scalars
from sid2core.training.ema import Share
from sid2core.training.loop import Run
from sid2core.training.mesh import ONE_DEVICE, Layout
from sid2core.typing import Array, LogSnr, RawExamples, Samples, Scalar, Time

BUCKETS = {
    "loss_logsnr_below_-5": (-math.inf, -5.0),
    "loss_logsnr_-5_to_0": (-5.0, 0.0),
    "loss_logsnr_0_to_5": (0.0, 5.0),
    "loss_logsnr_above_5": (5.0, math.inf),
}
"""The parts of the loss that the log lists separately, from much noise to little."""


Curve = Callable[[Any], Any]
"""A number that the log shows, as a function of the step's index."""


class Draws(NamedTuple):
    """The random choices of a batch."""

    t: Time
    eps: Samples
    condition: Condition
    """Null where it was dropped."""


@dataclass(frozen=True)
class Objective:
    """E_t[ L(z_t) ] over noised images, some of them with the null condition.

    The sigmoid loss L = ½ (−λ') sigmoid(b − λ) mean((eps − eps_hat)²) of SiD2 supplement B.1, or
    any other :class:`TrainingLoss`.
    """

    network: Network
    schedule: Schedule
    loss: TrainingLoss
    prediction: parametrisation.Prediction
    dropout: float
    """How often an example's condition is dropped."""
    frozen: frozenset[str] = frozenset()
    """Parameters without a gradient, by name."""
    given_dropout: float | None = None
    """How often an example's given frames are dropped; None is ``dropout``."""

    def __call__(
        self, params: Mapping[str, Array], x: Samples, condition: Condition, key: Array, step: Array
    ) -> tuple[Scalar, Scalars]:
        """The loss of a batch: its examples in [-1, 1], their condition, one key, the step.

        Examples are images [b, h, w, c] or video [b, f, h, w, c], without the given frames.

        Returns:
            The loss, and which part of it is of which log-SNR (:func:`by_logsnr`).
        """
        draws, key_dropout = self.drawn(x.shape, condition, key)
        return self.of_draws(params, x, draws, key_dropout, step)

    def drawn(
        self, shape: tuple[int, ...], condition: Condition, key: Array
    ) -> tuple[Draws, Array]:
        """The random choices of a batch of ``shape``, and the key of the network's dropout."""
        key_t, key_eps, key_condition, key_dropout = jax.random.split(key, 4)
        t = antithetic_times(key_t, shape[0])
        eps = standard_normal(key_eps, shape)
        spec = self.network.config.condition
        rates = (self.dropout, shape[0], self.given_dropout)
        condition = spec.dropped(condition, key_condition, *rates)
        return Draws(t, eps, condition), key_dropout

    def of_draws(
        self,
        params: Mapping[str, Array],
        x: Samples,
        draws: Draws,
        key_dropout: DropoutKey,
        step: Array,
    ) -> tuple[Scalar, Scalars]:
        """The loss of a batch, or of a part of one, with its random choices made."""
        logsnr = self.schedule.logsnr(draws.t)
        z = parametrisation.diffuse(x, draws.eps, logsnr)
        stop, frozen = jax.lax.stop_gradient, self.frozen
        weights = {name: stop(one) if name in frozen else one for name, one in params.items()}
        output = self.network.apply(weights, z, logsnr, draws.condition, key_dropout)
        noised = Noised(x, draws.eps, z, logsnr, -self.schedule.dlogsnr_dt(draws.t))
        losses = self.loss(noised, output, self.prediction, step)
        return jnp.mean(losses), by_logsnr(losses, logsnr)

    def accumulated(
        self,
        params: Mapping[str, Array],
        images: RawExamples,
        condition: Condition,
        key: Array,
        step: Array,
        parts: int,
        layout: Layout = ONE_DEVICE,
    ) -> tuple[tuple[Scalar, Scalars], Any]:
        """Loss and gradient of a raw batch, in ``parts``, each with its share of the same draws."""
        draws, key_dropout = self.drawn(images.shape, condition, key)

        def loss(
            params: Any, part: tuple[RawExamples, Draws], index: Array
        ) -> tuple[Scalar, Scalars]:
            images, draws = part
            dropout = PartKey(key_dropout, index, parts)
            return self.of_draws(params, to_unit(images), draws, dropout, step)

        return accumulation.mean_and_gradient(loss, params, (images, draws), parts, layout)


def by_logsnr(losses: Array, logsnr: LogSnr) -> Scalars:
    """Which part of the mean of ``losses`` [b] is of examples within each of a few log-SNRs.

    The parts add up to the mean; where a batch has no such example a part is 0, never NaN.
    """
    return {
        name: jnp.mean(jnp.where((low <= logsnr) & (logsnr < high), losses, 0.0))
        for name, (low, high) in BUCKETS.items()
    }


def update(
    state: Mapping[str, Any],
    batch: Batch,
    key: Array,
    *,
    objective: Objective,
    chain: optax.GradientTransformation,
    ema_decay: float,
    emas: Mapping[str, Share] | None = None,
    parts: int = 1,
    layout: Layout = ONE_DEVICE,
) -> tuple[dict[str, Any], dict[str, Scalar]]:
    """One step of the optimiser ``chain`` and of the EMAs, the gradient computed in ``parts``.

    ``key`` is folded with the state's own step.
    """
    images, condition = batch
    step_key, weights = jax.random.fold_in(key, state["step"]), state["params"]
    if parts == 1:
        (loss, parts_of_loss), gradient = jax.value_and_grad(objective, has_aux=True)(
            weights, to_unit(images), condition, step_key, state["step"]
        )
    else:
        (loss, parts_of_loss), gradient = objective.accumulated(
            weights, images, condition, step_key, state["step"], parts, layout
        )
    gradient = layout.reshard(gradient)
    change, optimiser_state = chain.update(gradient, state["optimiser"], state["params"])
    params = optax.apply_updates(state["params"], change)
    new = {
        "step": state["step"] + 1,
        "params": params,
        "ema": optax.incremental_update(
            params, state["ema"], ema.decaying(ema_decay)(state["step"] + 1)
        ),
        "emas": ema.updated(state["emas"], params, state["step"], emas or {}),
        "optimiser": optimiser_state,
    }
    norms = {"grad_norm": gradient, "param_norm": params, "update_norm": change}
    scalars = {name: optax.tree.norm(tree) for name, tree in norms.items()}
    return new, {"loss": loss} | parts_of_loss | scalars


def initial_state(
    params: Parameters, chain: optax.GradientTransformation, emas: Iterable[str] = ()
) -> dict[str, Any]:
    """Step 0: the EMA starts at the parameters, and so do those named by ``emas``."""
    return {
        "step": jnp.zeros((), jnp.int32),
        "params": params,
        "ema": _copied(params),
        "emas": {name: _copied(params) for name in emas},
        "optimiser": chain.init(params),
    }


def objective_of(
    diffusion: config.Diffusion,
    network: Network,
    dropout: float,
    frozen: frozenset[str] = frozenset(),
    given_dropout: float | None = None,
) -> Objective:
    """The objective of the section ``diffusion`` for ``network``.

    Args:
        diffusion: schedule, loss and what the network's output means.
        network: to be trained.
        dropout: how often an example's condition is dropped.
        frozen: names of the parameters that stay as they are.
        given_dropout: how often an example's given frames are dropped; None is ``dropout``.

    Raises:
        ParamsError: the schedule or the loss does not fit the images.
    """
    shape = network.config.image_shape
    return Objective(
        network,
        build.noise_schedule(diffusion.schedule, shape[-3]),
        build.training_loss(diffusion.loss, shape),
        parametrisation.Prediction(diffusion.prediction),
        dropout,
        frozen,
        given_dropout,
    )


def base_run(
    objective: Objective,
    settings: config.Train,
    loader: Loader,
    seed: int,
    *,
    curves: Mapping[str, Curve] | None = None,
    layout: Layout = ONE_DEVICE,
    start: Parameters | None = None,
) -> Run:
    """The training of ``objective.network`` on the batches of ``loader``.

    Args:
        objective: what is minimised.
        settings: the section ``train``.
        loader: of examples and their conditions.
        seed: of everything random.
        curves: further functions of the step's index that the log shows, by name.
        layout: the devices.
        start: the first weights; fresh ones without.

    Raises:
        ParamsError: as :func:`compiled` does.
    """
    first, step_of = compiled(objective, settings, seed, layout)
    key, shape = rng.key(seed, "train"), objective.network.config
    rate = optimiser.learning_rate(settings.optimiser, settings.steps)
    shown = _together({"learning_rate": rate, **(curves or {})})
    given = None if start is None else layout.shard(start)

    def step(state: Any, batch: Batch, index: int) -> tuple[Any, dict[str, Scalar]]:
        state, scalars = step_of(state, batch, key)
        return state, scalars | shown(index)

    return Run(
        name="train",
        steps=settings.steps,
        init=lambda: (
            layout.init_sharded(first) if given is None else layout.init_sharded(first, given)
        ),
        batches=lambda index: loader.stream(index, settings.steps - index),
        step=step,
        images_per_step=settings.batch_size,
        cure="lower train.optimiser.learning_rate, or clip harder (train.optimiser.clip_norm)",
        layout=layout,
        gflops_step=(
            cost.FORWARDS_PER_TRAINING_STEP * cost.forward_gflops(shape) * settings.batch_size
        ),
        dtype=shape.compute_dtype,
    )


def compiled(
    objective: Objective, settings: config.Train, seed: int, layout: Layout = ONE_DEVICE
) -> tuple[Callable[..., dict[str, Any]], Any]:
    """The functions that make the first state and, by ``settings``, the next one; jitted.

    The first state has fresh weights, or those that its maker is given.

    Raises:
        ParamsError: the parts of a batch cannot be divided over the devices.
    """
    layout.check_parts("train", settings.batch_size, settings.accumulation)
    chain = optimiser.build(settings.optimiser, settings.steps)
    shares = ema.shares(settings.emas)

    def first(given: Parameters | None = None) -> dict[str, Any]:
        fresh = given is None
        weights = objective.network.init(rng.key(seed, "init")) if fresh else _copied(given)
        return skip_nonfinite.watched(initial_state(weights, chain, shares))

    plain = partial(
        update,
        objective=objective,
        chain=chain,
        ema_decay=settings.ema_decay,
        emas=shares,
        parts=settings.accumulation,
        layout=layout,
    )
    guarded = skip_nonfinite.guarded(skip_nonfinite.frozen(plain, objective.frozen))
    return first, layout.compiled(guarded, first)


def _copied(weights: Any) -> Any:
    """A step gives its state's buffers away: given weights outlive it in buffers of their own."""
    return jax.tree.map(jnp.copy, weights)


def _together(curves: Mapping[str, Curve]) -> Callable[[Any], dict[str, Scalar]]:
    """All curves as one compiled function, computed while the device steps."""
    return jax.jit(lambda index: {name: curve(index) for name, curve in curves.items()})
