"""The orthonormal two-dimensional Haar transform, iterated on the low sub-band (supplement B.2).

A sub-band is named by its filters in the order they were applied: at each level first along the
rows (neighbours in width), then along the columns (neighbours in height). ``LLLH`` is the second
level's low-by-rows, high-by-columns part of the first level's ``LL``.
"""

import itertools
import math

import jax.numpy as jnp

from sid2core.typing import Array

__all__ = ["from_subbands", "names", "subbands"]

_WIDTH, _HEIGHT = -2, -3


def subbands(x: Array, levels: int) -> dict[str, Array]:
    """``s_k = (i_2k + i_2k+1) / sqrt 2, d_k = (i_2k - i_2k+1) / sqrt 2``, rows then columns.

    SiD2 supplement B.2. The transform is orthonormal: the squares of all sub-bands add up to the
    squares of x.

    Args:
        x: images or frames [..., h, w, c].
        levels: how often the low sub-band is split; 0 returns x whole under the empty name.

    Returns:
        The 3 levels + 1 sub-bands by name, the deepest first: for two levels LLLL, LLLH, LLHL,
        LLHH [..., h/4, w/4, c] and LH, HL, HH [..., h/2, w/2, c].

    Raises:
        ValueError: if height or width is not divisible by 2^levels.
    """
    if levels < 0:
        raise ValueError(f"levels is {levels}, expected 0 or more")
    if levels == 0:
        return {"": x}
    height, width = x.shape[_HEIGHT], x.shape[_WIDTH]
    if height % 2**levels or width % 2**levels:
        raise ValueError(
            f"a {height} x {width} image cannot be split {levels} times: both sizes must be "
            f"divisible by {2**levels}; lower the number of levels or resize the images"
        )
    low, high = _split(x, _WIDTH)
    (ll, lh), (hl, hh) = _split(low, _HEIGHT), _split(high, _HEIGHT)
    deeper = {f"LL{name}": band for name, band in subbands(ll, levels - 1).items()}
    return deeper | {"LH": lh, "HL": hl, "HH": hh}


def from_subbands(bands: dict[str, Array]) -> Array:
    """``i_2k = (s_k + d_k) / sqrt 2, i_2k+1 = (s_k - d_k) / sqrt 2``: the inverse of subbands.

    Args:
        bands: the sub-bands by name, as :func:`subbands` returns them.

    Returns:
        The images or frames [..., h, w, c].

    Raises:
        ValueError: if a sub-band is missing or has an unknown name.
    """
    levels = max((len(name) for name in bands), default=0) // 2
    expected = names(levels)
    if set(bands) != set(expected):
        raise ValueError(f"found sub-bands {sorted(bands)}, expected {expected}")
    image = bands["LL" * levels]
    for level in reversed(range(levels)):
        prefix = "LL" * level
        low = _join(image, bands[f"{prefix}LH"], _HEIGHT)
        high = _join(bands[f"{prefix}HL"], bands[f"{prefix}HH"], _HEIGHT)
        image = _join(low, high, _WIDTH)
    return image


def names(levels: int) -> list[str]:
    """The names of the sub-bands in the order of :func:`subbands`: the deepest first."""
    details = itertools.product(reversed(range(levels)), ("LH", "HL", "HH"))
    return ["LL" * levels, *("LL" * level + detail for level, detail in details)]


def _split(x: Array, axis: int) -> tuple[Array, Array]:
    axis %= x.ndim
    pairs = x.reshape(*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :])
    even, odd = jnp.moveaxis(pairs, axis + 1, 0)
    return (even + odd) * math.sqrt(0.5), (even - odd) * math.sqrt(0.5)


def _join(low: Array, high: Array, axis: int) -> Array:
    axis %= low.ndim
    even, odd = (low + high) * math.sqrt(0.5), (low - high) * math.sqrt(0.5)
    pairs = jnp.stack([even, odd], axis=axis + 1)
    return pairs.reshape(*low.shape[:axis], 2 * low.shape[axis], *low.shape[axis + 1 :])
