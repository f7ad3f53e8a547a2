"""How the data set's own feature extractor learns without labels.

Two views of each image are degraded at random: blurred, noised, faded, or with halves swapped. The
network estimates how much each view was degraded in each way, and which two views are of one
image:

    loss = mean_i [ w ‖u_i − û_i‖² − log( e^(s_ij / τ) / Σ_(k≠i) e^(s_ik / τ) ) ]

with u_i in [0, 1]^4 the levels of view i, of which at most one is not 0, s the cosine similarity of
projections of the features, and j the other view of i's image. The first term makes features move
with the faults of generated images, in proportion to them; the second (NT-Xent, arXiv 2002.05709)
makes them tell what an image shows, so that missing variety is seen too.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from sid2core.typing import Array, Features, Image, Scalar

WEIGHT = 8.0
"""w, of the levels."""
TEMPERATURE = 0.2
"""τ."""
PROJECTION = 32
"""Size of the vectors whose similarities are compared."""
BLUR, NOISE, FADED, SWAPPED = range(4)
LEVELS = 4
"""How many ways there are to degrade a view."""
WIDEST_BLUR, STRONGEST_NOISE = 2.5, 0.6
"""Standard deviations at level 1: of the Gaussian in pixels, of the noise in [-1, 1]."""


def random_levels(key: Array, count: int) -> Array:
    """Levels [count, 4]: one way or none is chosen alike, its level is uniform; 1 for a swap."""
    key_way, key_level = jax.random.split(key)
    way = jax.random.randint(key_way, (count,), 0, LEVELS + 1)
    level = jax.random.uniform(key_level, (count,))
    level = jnp.where(way == SWAPPED, 1.0, level)
    return jax.nn.one_hot(way, LEVELS) * level[:, None]


def degraded(x: Image, levels: Array, key: Array) -> Image:
    """Images [b, h, w, c] in [-1, 1], degraded by levels [b, 4].

    In this order: halves change places in both directions, a Gaussian blur, less difference from
    the image's mean colour, normal noise.
    """
    blur, noise, faded, swapped = levels.T[:, :, None, None, None]
    middle = (x.shape[1] // 2, x.shape[2] // 2)
    x = jnp.where(swapped > 0.0, jnp.roll(x, middle, axis=(1, 2)), x)
    x = blurred(x, WIDEST_BLUR * blur[:, :, 0, 0])
    mean = x.mean(axis=(1, 2), keepdims=True)
    x = mean + (1.0 - faded) * (x - mean)
    normal = jax.random.normal(key, (x.size,)).reshape(x.shape)
    return jnp.clip(x + STRONGEST_NOISE * noise * normal, -1.0, 1.0)


def blurred(x: Image, deviations: Array) -> Image:
    """Image i convolved with a Gaussian of ``deviations[i]`` pixels [b, 1], normalised at edges."""

    def weights(size: int) -> Array:
        places = jnp.arange(size, dtype=jnp.float32)
        offsets = places[None, :, None] - places[None, None, :]
        width = jnp.maximum(deviations, 0.01)[:, :, None]
        gaussian = jnp.exp(-0.5 * jnp.square(offsets / width))
        return gaussian / gaussian.sum(axis=-1, keepdims=True)

    return jnp.einsum("biy,bjx,byxc->bijc", weights(x.shape[1]), weights(x.shape[2]), x)


def projection(key: Array, feature_size: int) -> Array:
    """Initial weights of the projection, [feature_size, PROJECTION]."""
    flat = jax.random.normal(key, (feature_size * PROJECTION,))
    return (flat / feature_size**0.5).reshape(feature_size, PROJECTION)


def loss(levels: Array, estimated: Array, projected: Features) -> tuple[Scalar, Scalar]:
    """The loss of 2b views, and the share of them whose most similar view is of the same image.

    Args:
        levels: [2b, 4].
        estimated: the network's estimate of them.
        projected: [2b, d]; rows i and b + i are of one image.
    """
    error = jnp.square(levels - estimated).sum(axis=-1).mean()
    unit = projected / jnp.maximum(jnp.linalg.norm(projected, axis=-1, keepdims=True), 1e-6)
    count = len(unit)
    similar = jnp.where(jnp.eye(count, dtype=bool), -jnp.inf, unit @ unit.T / TEMPERATURE)
    others = jnp.roll(jnp.arange(count), count // 2)
    contrast = optax.softmax_cross_entropy_with_integer_labels(similar, others).mean()
    hits = (similar.argmax(axis=-1) == others).astype(jnp.float32)
    return WEIGHT * error + contrast, hits.mean()
