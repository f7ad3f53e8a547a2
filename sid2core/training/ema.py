"""Averages of the weights: the one that later stages use, and those beside it.

Each is ``ema_t = beta_t ema_(t-1) + (1 - beta_t) w_t``, with t counted from 1, the first update,
and ema_0 the initial weights:

- a decay with warm-up: beta_t = min(decay, (1 + t) / (10 + t)). During the warm-up, t <
  9 / (1 - decay), the average of step T covers about the last tenth of the training: the weights up
  to step k have the share binom(k + 10, 9) / binom(T + 10, 9), so the initial weights soon have
  none (1e-17 after 400 steps; a constant decay of 0.998 leaves them 45 %). Later the decay is
  constant, and the warm-up is forgotten like any other step: with decay 0.9999, its share after
  500,000 steps is 2e-18. The warm-up is that of TensorFlow's ``ExponentialMovingAverage``;
- a power function: beta_t = (1 - 1/t)^(gamma + 1), so w_t has the weight
  (t^(gamma+1) - (t-1)^(gamma+1)) / T^(gamma+1) in the average at step T. It forgets the fresh
  weights at once, and its width is a constant share sigma_rel of the training so far
  (arXiv 2312.02696, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np
import optax

from sid2core.config.training import Ema
from sid2core.models.network import Parameters
from sid2core.typing import Array, Scalar

Share = Callable[[Array], Scalar]
"""t → 1 − beta_t: how much of the weights an average takes up at the update of number t."""


def name(ema: Ema) -> str:
    """What an average is called in the state and, with an extension, in files."""
    return f"ema_{ema.kind}_{ema.value}"


def shares(emas: Sequence[Ema] | None) -> dict[str, Share]:
    """The averages that ``train.emas`` asks for, by name."""
    return {
        name(ema): _power(ema.value) if ema.kind == "power" else decaying(ema.value)
        for ema in emas or ()
    }


def updated(
    emas: Mapping[str, Parameters], params: Parameters, step: Array, shares: Mapping[str, Share]
) -> dict[str, Parameters]:
    """All averages after the update that led to ``params``; ``step`` counts those before it."""
    return {
        name: optax.incremental_update(params, emas[name], share(step + 1))
        for name, share in shares.items()
    }


def gamma(sigma_rel: float) -> float:
    """The gamma with ``sigma_rel = (gamma+1)^(1/2) (gamma+2)^-1 (gamma+3)^-(1/2)``.

    The largest root of (gamma+2)² (gamma+3) sigma_rel² = gamma + 1: 16.97 for 0.05, 6.94 for 0.1
    (arXiv 2312.02696, section 3.1).
    """
    inverse = sigma_rel**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def decaying(decay: float) -> Share:
    """1 − beta_t = max(1 − decay, 9 / (10 + t)): a decay with warm-up."""
    return lambda t: jnp.maximum(jnp.float32(1.0 - decay), 9.0 / (10.0 + t.astype(jnp.float32)))


def _power(sigma_rel: float) -> Share:
    exponent = gamma(sigma_rel) + 1.0
    # Not as 1 - (1 - 1/t)^exponent, of which float32 has few digits left after many steps.
    return lambda t: -jnp.expm1(exponent * jnp.log1p(-1.0 / t.astype(jnp.float32)))
