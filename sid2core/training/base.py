"""Base training: the denoising objective and its update, as pure functions."""

from __future__ import annotations

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
from sid2core.training import optimiser
from sid2core.training.loop import Run
from sid2core.typing import Array, Labels, Pixels, Samples, Scalar


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

    def __call__(
        self, params: Mapping[str, Array], x: Samples, labels: Labels, key: Array, step: Array
    ) -> Scalar:
        """The loss of a batch: its examples in [-1, 1], labels [b], one key, the step.

        Examples are images [b, h, w, c] or video [b, f, h, w, c].
        """
        key_t, key_eps, key_label, key_dropout = jax.random.split(key, 4)
        t = antithetic_times(key_t, len(x))
        logsnr = self.schedule.logsnr(t)
        eps = standard_normal(key_eps, x.shape)
        z = parametrisation.diffuse(x, eps, logsnr)
        dropped = jax.random.bernoulli(key_label, self.label_dropout, labels.shape)
        null = jnp.full_like(labels, self.network.config.num_classes)
        output = self.network.apply(
            params, z, logsnr, jnp.where(dropped, null, labels), key_dropout
        )
        noised = Noised(x, eps, z, logsnr, -self.schedule.dlogsnr_dt(t))
        return jnp.mean(self.loss(noised, output, self.prediction, step))


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
    loss, gradient = jax.value_and_grad(objective)(
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
    return new, {"loss": loss, "grad_norm": optax.tree.norm(gradient)}


def initial_state(params: Parameters, optimiser: optax.GradientTransformation) -> dict[str, Any]:
    """Step 0: the EMA starts at the parameters."""
    return {
        "step": jnp.zeros((), jnp.int32),
        "params": params,
        "ema": jax.tree.map(jnp.copy, params),
        "optimiser": optimiser.init(params),
    }


def base_run(params: config.Params, network: Network, loader: Loader) -> Run:
    """The base training of ``params.train`` on the batches of ``loader``.

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
    )
    jitted = jax.jit(
        partial(update, objective=objective, optimiser=adam, ema_decay=settings.ema_decay),
        donate_argnums=0,
    )
    rate = optimiser.learning_rate(settings.optimiser, settings.steps)
    key = rng.key(params.seed, "train")

    def step(state: Any, batch: Batch, index: int) -> tuple[Any, dict[str, Scalar]]:
        state, scalars = jitted(state, batch.images, batch.labels, key)
        return state, scalars | {"learning_rate": rate(index)}

    return Run(
        name="train",
        steps=settings.steps,
        init=lambda: initial_state(network.init(rng.key(params.seed, "init")), adam),
        batches=lambda index: loader.stream(index, settings.steps - index),
        step=step,
        images_per_step=settings.batch_size,
        cure="lower train.optimiser.learning_rate, or clip harder (train.optimiser.clip_norm)",
    )
