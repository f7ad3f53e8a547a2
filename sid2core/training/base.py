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
from sid2core.training.accumulation import Told
from sid2core.training.ema import Share
from sid2core.training.initialisation import FROM_SCRATCH, Start
from sid2core.training.loop import Run
from sid2core.training.mesh import ONE_DEVICE, Layout
from sid2core.typing import Array, Labels, LogSnr, Pixels, Samples, Scalar, Time

BUCKETS = {
    "loss_logsnr_below_-5": (-math.inf, -5.0),
    "loss_logsnr_-5_to_0": (-5.0, 0.0),
    "loss_logsnr_0_to_5": (0.0, 5.0),
    "loss_logsnr_above_5": (5.0, math.inf),
}
"""The parts of the loss that the log tells apart, from much noise to little."""


class Draws(NamedTuple):
    """What chance decides of each example."""

    t: Time
    eps: Samples
    labels: Labels
    """Some of them dropped: the null class."""


@dataclass(frozen=True)
class Objective:
    """E_t[ L(z_t) ] over noised images, with dropped labels.

    The sigmoid loss L = ½ (−λ') sigmoid(b − λ) mean((eps − eps_hat)²) of SiD2 supplement B.1, or
    any other :class:`TrainingLoss`.
    """

    network: Network
    schedule: Schedule
    loss: TrainingLoss
    prediction: parametrisation.Prediction
    label_dropout: float
    frozen: frozenset[str] = frozenset()
    """Parameters without a gradient, by name."""

    def __call__(
        self, params: Mapping[str, Array], x: Samples, labels: Labels, key: Array, step: Array
    ) -> tuple[Scalar, Told]:
        """The loss of a batch: its examples in [-1, 1], labels [b], one key, the step.

        Examples are images [b, h, w, c] or video [b, f, h, w, c].

        Returns:
            The loss, and which part of it is of which log-SNR (:func:`by_logsnr`).
        """
        draws, key_dropout = self.drawn(x.shape, labels, key)
        return self.of_draws(params, x, draws, key_dropout, step)

    def drawn(self, shape: tuple[int, ...], labels: Labels, key: Array) -> tuple[Draws, Array]:
        """All that chance decides of a batch of ``shape``, and the key of the network's dropout."""
        key_t, key_eps, key_label, key_dropout = jax.random.split(key, 4)
        t = antithetic_times(key_t, shape[0])
        eps = standard_normal(key_eps, shape)
        dropped = jax.random.bernoulli(key_label, self.label_dropout, labels.shape)
        null = jnp.full_like(labels, self.network.config.num_classes)
        return Draws(t, eps, jnp.where(dropped, null, labels)), key_dropout

    def of_draws(
        self,
        params: Mapping[str, Array],
        x: Samples,
        draws: Draws,
        key_dropout: DropoutKey,
        step: Array,
    ) -> tuple[Scalar, Told]:
        """The loss of a batch, or of a part of one, with what chance has decided."""
        logsnr = self.schedule.logsnr(draws.t)
        z = parametrisation.diffuse(x, draws.eps, logsnr)
        stop, frozen = jax.lax.stop_gradient, self.frozen
        weights = {name: stop(one) if name in frozen else one for name, one in params.items()}
        output = self.network.apply(weights, z, logsnr, draws.labels, key_dropout)
        noised = Noised(x, draws.eps, z, logsnr, -self.schedule.dlogsnr_dt(draws.t))
        losses = self.loss(noised, output, self.prediction, step)
        return jnp.mean(losses), by_logsnr(losses, logsnr)

    def accumulated(
        self,
        params: Mapping[str, Array],
        images: Pixels,
        labels: Labels,
        key: Array,
        step: Array,
        parts: int,
        layout: Layout = ONE_DEVICE,
    ) -> tuple[tuple[Scalar, Told], Any]:
        """Loss and gradient of a raw batch, in ``parts``, each with its share of the same draws."""
        draws, key_dropout = self.drawn(images.shape, labels, key)

        def loss(params: Any, part: tuple[Pixels, Draws], index: Array) -> tuple[Scalar, Told]:
            images, draws = part
            dropout = PartKey(key_dropout, index, parts)
            return self.of_draws(params, to_unit(images), draws, dropout, step)

        return accumulation.mean_and_gradient(loss, params, (images, draws), parts, layout)


def by_logsnr(losses: Array, logsnr: LogSnr) -> Told:
    """Which part of the mean of ``losses`` [b] is of examples within each of a few log-SNRs.

    The parts add up to the mean; where a batch has no such example a part is 0, never NaN.
    """
    return {
        name: jnp.mean(jnp.where((low <= logsnr) & (logsnr < high), losses, 0.0))
        for name, (low, high) in BUCKETS.items()
    }


def update(
    state: Mapping[str, Any],
    images: Pixels,
    labels: Labels,
    key: Array,
    *,
    objective: Objective,
    optimiser: optax.GradientTransformation,
    ema_decay: float,
    emas: Mapping[str, Share] | None = None,
    accumulation: int = 1,
    layout: Layout = ONE_DEVICE,
) -> tuple[dict[str, Any], dict[str, Scalar]]:
    """One step of the optimiser and of the EMAs; ``key`` is folded with the state's own step."""
    step_key, weights = jax.random.fold_in(key, state["step"]), layout.gathered(state["params"])
    if accumulation == 1:
        (loss, told), gradient = jax.value_and_grad(objective, has_aux=True)(
            weights, to_unit(images), labels, step_key, state["step"]
        )
    else:
        (loss, told), gradient = objective.accumulated(
            weights, images, labels, step_key, state["step"], accumulation, layout
        )
    gradient = layout.divided(gradient)
    change, optimiser_state = optimiser.update(gradient, state["optimiser"], state["params"])
    params = optax.apply_updates(state["params"], change)
    new = {
        "step": state["step"] + 1,
        "params": params,
        "ema": optax.incremental_update(params, state["ema"], 1.0 - ema_decay),
        "emas": ema.updated(state["emas"], params, state["step"], emas or {}),
        "optimiser": optimiser_state,
    }
    norms = {"grad_norm": gradient, "param_norm": params, "update_norm": change}
    scalars = {name: optax.tree.norm(tree) for name, tree in norms.items()}
    return new, {"loss": loss} | told | scalars


def initial_state(
    params: Parameters, optimiser: optax.GradientTransformation, emas: Iterable[str] = ()
) -> dict[str, Any]:
    """Step 0: the EMA starts at the parameters, and so do those named by ``emas``."""
    return {
        "step": jnp.zeros((), jnp.int32),
        "params": params,
        "ema": _copied(params),
        "emas": {name: _copied(params) for name in emas},
        "optimiser": optimiser.init(params),
    }


def base_run(
    params: config.Params,
    network: Network,
    loader: Loader,
    layout: Layout = ONE_DEVICE,
    start: Start = FROM_SCRATCH,
) -> Run:
    """The base training of ``params.train`` on the batches of ``loader``, begun at ``start``.

    Raises:
        ParamsError: as :func:`compiled` does.
    """
    settings = params.train
    first, step_of = compiled(params, network, layout, start.frozen)
    key = rng.key(params.seed, "train")
    curves = jax.jit(_curves(params))
    given = None if start.params is None else layout.placed(start.params)

    def step(state: Any, batch: Batch, index: int) -> tuple[Any, dict[str, Scalar]]:
        state, scalars = step_of(state, batch.images, batch.labels, key)
        return state, scalars | curves(index)

    return Run(
        name="train",
        steps=settings.steps,
        init=lambda: layout.born(first) if given is None else layout.born(first, given),
        batches=lambda index: loader.stream(index, settings.steps - index),
        step=step,
        images_per_step=settings.batch_size,
        cure="lower train.optimiser.learning_rate, or clip harder (train.optimiser.clip_norm)",
        layout=layout,
        gflops_step=(
            cost.FORWARDS_PER_TRAINING_STEP
            * cost.forward_gflops(network.config)
            * settings.batch_size
        ),
        dtype=network.config.compute_dtype,
    )


def compiled(
    params: config.Params,
    network: Network,
    layout: Layout = ONE_DEVICE,
    frozen: frozenset[str] = frozenset(),
) -> tuple[Callable[..., dict[str, Any]], Any]:
    """What makes the first state, and :func:`update` as ``params.train`` has it, jitted.

    The first state is of fresh weights, or of those that its maker is given.

    Raises:
        ParamsError: the schedule or the loss does not fit the images, or the parts of a batch
            cannot be divided over the devices.
    """
    settings = params.train
    layout.check_parts("train", settings.batch_size, settings.accumulation)
    chain = optimiser.build(settings.optimiser, settings.steps)
    shares = ema.shares(settings.emas)
    objective = Objective(
        network,
        build.noise_schedule(params.diffusion.schedule, network.config.image_shape[-3]),
        build.training_loss(params.diffusion.loss, network.config.image_shape),
        parametrisation.Prediction(params.diffusion.prediction),
        settings.label_dropout,
        frozen,
    )

    def first(given: Parameters | None = None) -> dict[str, Any]:
        fresh = given is None
        weights = network.init(rng.key(params.seed, "init")) if fresh else _copied(given)
        return skip_nonfinite.watched(initial_state(weights, chain, shares))

    plain = partial(
        update,
        objective=objective,
        optimiser=chain,
        ema_decay=settings.ema_decay,
        emas=shares,
        accumulation=settings.accumulation,
        layout=layout,
    )
    return first, layout.compiled(
        skip_nonfinite.guarded(skip_nonfinite.frozen(plain, frozen)), first
    )


def _copied(weights: Any) -> Any:
    """A step gives its state's buffers away: given weights outlive it in buffers of their own."""
    return jax.tree.map(jnp.copy, weights)


def _curves(params: config.Params) -> Callable[[Scalar], dict[str, Scalar]]:
    """What the log shows as functions of the step's index; computed while the device steps."""
    curves: dict[str, Any] = {
        "learning_rate": optimiser.learning_rate(params.train.optimiser, params.train.steps)
    }
    bias = build.moving_bias(params.diffusion.loss)
    if bias is not None:
        curves["bias"] = bias
    return lambda index: {name: curve(index) for name, curve in curves.items()}
