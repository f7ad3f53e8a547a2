"""The optimiser of every training run: warm-up, a global-norm clip, then Adam, AdamW or Muon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers, muon

from sid2core import config

_MUON_RMS = 0.2
"""Root mean square of Muon's updates over the learning rate: as large as Adam's usually are, so
that one learning rate serves both (arXiv 2502.16982)."""
_ENDS = ("patch_in/", "patch_out/", "conditioning/")
"""First and last layers, which Muon leaves to Adam."""


def learning_rate(settings: config.Optimiser, steps: int) -> optax.Schedule:
    """Linear warm-up to the peak, then constant, or linear to zero at the last step."""
    peak, warmup = settings.learning_rate, settings.warmup_steps
    end = peak if settings.decay == "constant" else 0.0
    rise = optax.linear_schedule(peak / max(warmup, 1), peak, max(warmup - 1, 1))
    after = optax.linear_schedule(peak, end, max(steps - warmup, 1))
    return optax.join_schedules([rise, after], [warmup])


def build(settings: config.Optimiser, steps: int) -> optax.GradientTransformation:
    """Clip by global norm, then the optimiser by name, for a run of ``steps`` updates.

    - ``adam`` has no weight decay.
    - ``adamw`` takes ``weight_decay`` times the learning rate off kernels, not off biases, norms,
      embeddings and positions.
    - ``muon`` updates the kernels inside the network by orthogonalised momentum (0.95, Nesterov),
      a convolution as the matrix from its window and inputs to its outputs, with weight decay;
      the rest by Adam, with Nesterov's correction as well.
    """
    clipped = optax.chain(optax.clip_by_global_norm(settings.clip_norm), _named(settings, steps))

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
            return clipped.update(gradient, state, params)

    return optax.GradientTransformation(clipped.init, update)


def _named(settings: config.Optimiser, steps: int) -> optax.GradientTransformation:
    rate = learning_rate(settings, steps)
    b1, b2, eps, decay = (
        settings.adam_b1,
        settings.adam_b2,
        settings.adam_eps,
        settings.weight_decay,
    )
    match settings.name:
        case "adam":
            return optax.adam(rate, b1=b1, b2=b2, eps=eps)
        case "adamw":
            return optax.adamw(rate, b1=b1, b2=b2, eps=eps, weight_decay=decay, mask=_kernels)
        case "muon":
            return muon(
                rate,
                eps=eps,
                weight_decay=decay,
                adam_b1=b1,
                adam_b2=b2,
                muon_weight_dimension_numbers=_matrices,
                consistent_rms=_MUON_RMS,
            )


def _kernels(params: Mapping[str, Any]) -> dict[str, bool]:
    return {name: name.endswith("/kernel") for name in params}


def _matrices(params: Mapping[str, Any]) -> dict[str, MuonDimensionNumbers | None]:
    """Which parameters are matrices to Muon, and of what to what: all axes but the last are in."""
    inner = {
        name: kernel and not name.startswith(_ENDS) for name, kernel in _kernels(params).items()
    }
    return {
        name: MuonDimensionNumbers(tuple(range(params[name].ndim - 1)), params[name].ndim - 1)
        if inner[name]
        else None
        for name in params
    }
