"""Base training: the denoising objective and its update, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sid2core import config, recipe, rng
from sid2core.data.loader import Batch, Loader
from sid2core.data.pixels import to_unit
from sid2core.diffusion import parametrisation
from sid2core.diffusion.losses import Noised, TrainingLoss
from sid2core.diffusion.noise import standard_normal
from sid2core.diffusion.schedule import Schedule
from sid2core.diffusion.times import antithetic_times
from sid2core.models.network import Network, Parameters
from sid2core.training import guard, optimiser
from sid2core.training.loop import Run
from sid2core.training.start import FROM_SCRATCH, Start
from sid2core.typing import Array, Labels, LogSnr, Pixels, Samples, Scalar

BUCKETS = {
    "loss_logsnr_below_-5": (-math.inf, -5.0),
    "loss_logsnr_-5_to_0": (-5.0, 0.0),
    "loss_logsnr_0_to_5": (0.0, 5.0),
    "loss_logsnr_above_5": (5.0, math.inf),
}
"""The parts of the loss that the log tells apart, from much noise to little."""


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
    ) -> tuple[Scalar, dict[str, Scalar]]:
        """The loss of a batch: its examples in [-1, 1], labels [b], one key, the step.

        Examples are images [b, h, w, c] or video [b, f, h, w, c].

        Returns:
            The loss, and which part of it is of which log-SNR (:func:`by_logsnr`).
        """
        key_t, key_eps, key_label, key_dropout = jax.random.split(key, 4)
        t = antithetic_times(key_t, len(x))
        logsnr = self.schedule.logsnr(t)
        eps = standard_normal(key_eps, x.shape)
        z = parametrisation.diffuse(x, eps, logsnr)
        dropped = jax.random.bernoulli(key_label, self.label_dropout, labels.shape)
        null = jnp.full_like(labels, self.network.config.num_classes)
        output = self.network.apply(
            self._trained(params), z, logsnr, jnp.where(dropped, null, labels), key_dropout
        )
        noised = Noised(x, eps, z, logsnr, -self.schedule.dlogsnr_dt(t))
        losses = self.loss(noised, output, self.prediction, step)
        return jnp.mean(losses), by_logsnr(losses, logsnr)

    def _trained(self, params: Mapping[str, Array]) -> dict[str, Array]:
        stop = jax.lax.stop_gradient
        return {name: stop(one) if name in self.frozen else one for name, one in params.items()}


def by_logsnr(losses: Array, logsnr: LogSnr) -> dict[str, Scalar]:
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
) -> tuple[dict[str, Any], dict[str, Scalar]]:
    """One step of Adam and of the EMA; ``key`` is folded with the state's own step."""
    step_key = jax.random.fold_in(key, state["step"])
    (loss, parts), gradient = jax.value_and_grad(objective, has_aux=True)(
        state["params"], to_unit(images), labels, step_key, state["step"]
    )
    change, optimiser_state = optimiser.update(gradient, state["optimiser"], state["params"])
    params = optax.apply_updates(state["params"], change)
    new = {
        "step": state["step"] + 1,
        "params": params,
        "ema": optax.incremental_update(params, state["ema"], 1.0 - ema_decay),
        "optimiser": optimiser_state,
    }
    norms = {"grad_norm": gradient, "param_norm": params, "update_norm": change}
    scalars = {name: optax.tree.norm(tree) for name, tree in norms.items()}
    return new, {"loss": loss} | parts | scalars


def initial_state(params: Parameters, optimiser: optax.GradientTransformation) -> dict[str, Any]:
    """Step 0: the EMA starts at the parameters."""
    return {
        "step": jnp.zeros((), jnp.int32),
        "params": params,
        "ema": jax.tree.map(jnp.copy, params),
        "optimiser": optimiser.init(params),
    }


def base_run(
    params: config.Params, network: Network, loader: Loader, start: Start = FROM_SCRATCH
) -> Run:
    """The base training of ``params.train`` on the batches of ``loader``, begun at ``start``.

    Raises:
        ParamsError: the schedule or the loss does not fit the images.
    """
    settings = params.train
    adam = optimiser.build(settings.optimiser, settings.steps)
    objective = Objective(
        network,
        recipe.noise_schedule(params.diffusion.schedule, network.config.image_shape[-3]),
        recipe.training_loss(params.diffusion.loss, network.config.image_shape),
        parametrisation.Prediction(params.diffusion.prediction),
        settings.label_dropout,
        start.frozen,
    )
    curves: dict[str, Any] = {
        "learning_rate": optimiser.learning_rate(settings.optimiser, settings.steps)
    }
    bias = recipe.moving_bias(params.diffusion.loss)
    if bias is not None:
        curves["bias"] = bias
    plain = partial(update, objective=objective, optimiser=adam, ema_decay=settings.ema_decay)
    guarded = guard.guarded(guard.frozen(plain, start.frozen))
    jitted = jax.jit(guard.telling(guarded, curves), donate_argnums=0)
    key = rng.key(params.seed, "train")

    def init() -> dict[str, Any]:
        if start.params is None:
            first = network.init(rng.key(params.seed, "init"))
        else:
            first = jax.tree.map(jnp.copy, start.params)  # a step gives its state's buffers away
        return guard.watched(initial_state(first, adam))

    def step(state: Any, batch: Batch, index: int) -> tuple[Any, dict[str, Array]]:
        return jitted(state, batch.images, batch.labels, key)

    return Run(
        name="train",
        steps=settings.steps,
        init=init,
        batches=lambda index: loader.stream(index, settings.steps - index),
        step=step,
        images_per_step=settings.batch_size,
        cure="lower train.optimiser.learning_rate, or clip harder (train.optimiser.clip_norm)",
    )
