"""How the data set's own feature extractor learns without labels.

Two views of each image are degraded at random: blurred, noised, faded, or with halves swapped. The
network estimates how much each view was degraded in each way, and which two views are of one
image:

    loss = mean_i [ w ‖u_i − û_i‖² − log( e^(s_ij / τ) / Σ_(k≠i) e^(s_ik / τ) ) ]

with u_i in [0, 1]^4 the levels of view i, of which at most one is not 0, s the cosine similarity of
projections of the features, and j the other view of i's image. The first term makes features move
with the faults of generated images, in proportion to them; the second (NT-Xent, arXiv 2002.05709)
makes them tell what an image shows, so that missing variety is seen too.

Clips have two more ways, so u_i is in [0, 1]^6: the motion stops, or the frames change places.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from sid2core.typing import Array, Clip, Features, Image, Scalar

WEIGHT = 8.0
"""w, of the levels."""
TEMPERATURE = 0.2
"""τ."""
PROJECTION = 32
"""Size of the vectors whose similarities are compared."""
BLUR, NOISE, FADED, SWAPPED = range(4)
LEVELS = 4
"""How many ways there are to degrade a view."""
STOPPED, SHUFFLED = range(LEVELS, LEVELS + 2)
CLIP_LEVELS = 6
"""How many ways there are to degrade a view of a clip."""
WIDEST_BLUR, STRONGEST_NOISE = 2.5, 0.6
"""Standard deviations at level 1: of the Gaussian in pixels, of the noise in [-1, 1]."""


def random_levels(key: Array, count: int, ways: int = LEVELS) -> Array:
    """Levels [count, ways]: one way or none is chosen alike, its level is uniform; 1 for a swap."""
    key_way, key_level = jax.random.split(key)
    way = jax.random.randint(key_way, (count,), 0, ways + 1)
    level = jax.random.uniform(key_level, (count,))
    level = jnp.where(way == SWAPPED, 1.0, level)
    return jax.nn.one_hot(way, ways) * level[:, None]


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


def degraded_clips(x: Clip, levels: Array, key: Array) -> Clip:
    """Clips [b, f, h, w, c] in [-1, 1], degraded by levels [b, 6].

    First in time, by :func:`reordered`; then each frame as :func:`degraded` does it.
    """
    key_order, key_noise = jax.random.split(key)
    order = reordered(x.shape[1], levels[:, STOPPED], levels[:, SHUFFLED], key_order)
    x = jnp.take_along_axis(x, order[:, :, None, None, None], axis=1)
    frames = x.reshape(-1, *x.shape[2:])
    of_frames = jnp.repeat(levels[:, :LEVELS], x.shape[1], axis=0)
    return degraded(frames, of_frames, key_noise).reshape(x.shape)


def reordered(frames: int, stopped: Array, shuffled: Array, key: Array) -> Array:
    """Which frame is shown at each time, int [b, frames].

    At level s of ``stopped`` [b], the last s (frames − 1) frames repeat the one before them. At
    level s of ``shuffled``, frames are sorted by t + s · frames · u with u uniform in [0, 1).
    """
    times = jnp.arange(frames, dtype=jnp.float32)
    jitter = jax.random.uniform(key, (len(stopped), frames)) * frames
    order = jnp.argsort(times[None] + shuffled[:, None] * jitter, axis=1)
    last = jnp.round((1.0 - stopped) * (frames - 1)).astype(order.dtype)
    return jnp.minimum(order, last[:, None])


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
        levels: [2b, ways].
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
