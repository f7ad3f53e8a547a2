"""Clipping of the predicted image, after guidance and before the sampler's step.

Data lie in [-1, 1]; strong guidance predicts values far outside. A clipping is a frozen dataclass,
so that it can be a static argument of a compiled function.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax.numpy as jnp

from sid2core.diffusion.parametrisation import per_example
from sid2core.typing import Samples

__all__ = ["ClipX", "DynamicClip", "NoClip", "StaticClip"]


@runtime_checkable
class ClipX(Protocol):
    """From x_hat [b, …] to x_hat [b, …]; each example depends on itself alone."""

    def __call__(self, x_hat: Samples) -> Samples:
        """The clipped prediction."""
        ...


@dataclass(frozen=True)
class NoClip:
    """``x_hat``."""

    def __call__(self, x_hat: Samples) -> Samples:
        """The same array."""
        return x_hat


@dataclass(frozen=True)
class StaticClip:
    """``clip(x_hat, -1, 1)`` (SiD2 supplement B.6)."""

    def __call__(self, x_hat: Samples) -> Samples:
        """Values in [-1, 1]."""
        return jnp.clip(x_hat, -1.0, 1.0)


@dataclass(frozen=True)
class DynamicClip:
    """``clip(x_hat, -s, s) / s, s = max(1, quantile of |x_hat|)``, s for each example.

    Dynamic thresholding, Imagen (arXiv 2205.11487, section 2.3). The quantile is over all elements
    of the example and interpolates linearly. Where no more than a share 1 - ``quantile`` of the
    elements is outside [-1, 1], it is static clipping.
    """

    quantile: float = 0.995

    def __post_init__(self) -> None:
        """Refuse what is not a quantile."""
        if not 0.0 < self.quantile <= 1.0:
            raise ValueError(f"quantile is {self.quantile}, expected more than 0 and at most 1")

    def __call__(self, x_hat: Samples) -> Samples:
        """Values in [-1, 1]."""
        flat = jnp.abs(x_hat).reshape(x_hat.shape[0], -1)
        scale = jnp.maximum(1.0, jnp.quantile(flat, jnp.float32(self.quantile), axis=1))
        return jnp.clip(x_hat / per_example(scale, x_hat), -1.0, 1.0)
