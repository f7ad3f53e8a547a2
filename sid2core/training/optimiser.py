"""The optimiser of every training run: Adam with warm-up and a global-norm clip."""

from __future__ import annotations

from typing import Any

import jax
import optax

from sid2core import config


def learning_rate(settings: config.Optimiser, steps: int) -> optax.Schedule:
    """Linear warm-up to the peak, then constant, or linear to zero at the last step."""
    peak, warmup = settings.learning_rate, settings.warmup_steps
    end = peak if settings.decay == "constant" else 0.0
    rise = optax.linear_schedule(peak / max(warmup, 1), peak, max(warmup - 1, 1))
    after = optax.linear_schedule(peak, end, max(steps - warmup, 1))
    return optax.join_schedules([rise, after], [warmup])


def build(settings: config.Optimiser, steps: int) -> optax.GradientTransformation:
    """Clip by global norm, then Adam (no weight decay), for a run of ``steps`` updates."""
    adam = optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        optax.adam(
            learning_rate(settings, steps),
            b1=settings.adam_b1,
            b2=settings.adam_b2,
            eps=settings.adam_eps,
        ),
    )

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
            return adam.update(gradient, state, params)

    return optax.GradientTransformation(adam.init, update)
