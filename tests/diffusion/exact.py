"""Data whose exact denoiser is known, for tests of samplers."""

import math

import jax
import jax.numpy as jnp

MEAN, STD = 0.3, 0.4
"""Of the Gaussian data."""


def columns(array, like):
    """One value per example, [b], shaped [b, 1, …]."""
    return array.reshape(-1, *(1,) * (like.ndim - 1))


def gaussian_denoiser(z, logsnr):
    """E[x | z] for x ~ N(MEAN, STD²)."""
    a2, s2 = jax.nn.sigmoid(columns(logsnr, z)), jax.nn.sigmoid(-columns(logsnr, z))
    return MEAN + STD**2 * jnp.sqrt(a2) * (z - jnp.sqrt(a2) * MEAN) / (STD**2 * a2 + s2)


def mixture_denoiser(z, logsnr, centres=(-0.6, 0.5), masses=(0.3, 0.7), width=0.1):
    """E[x | z] for x from a mixture of two Gaussians of equal width."""
    a2, s2 = jax.nn.sigmoid(columns(logsnr, z)), jax.nn.sigmoid(-columns(logsnr, z))
    spread = width**2 * a2 + s2
    offsets = [z - jnp.sqrt(a2) * centre for centre in centres]
    means = [
        c + width**2 * jnp.sqrt(a2) * o / spread for c, o in zip(centres, offsets, strict=True)
    ]
    logits = [math.log(m) - 0.5 * o**2 / spread for m, o in zip(masses, offsets, strict=True)]
    second = jax.nn.sigmoid(logits[1] - logits[0])
    return (1.0 - second) * means[0] + second * means[1]
