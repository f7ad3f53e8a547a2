"""Coloured shapes on textured grounds: what there is to see as numbers, and its picture.

Lengths are in shorter sides of the picture, x to the right and y upward from its middle, so a
scene looks the same at every resolution. Edges are antialiased by their distance d in pixels,
outside positive: coverage = clip(1/2 - d, 0, 1), which is exact for an upright straight edge.
Pixels come of sums, products, quotients and roots alone, which IEEE 754 rounds alike everywhere.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.floating]
"""One number a pixel [h, w], float32."""
Rgb = tuple[float, float, float]

COLOURS: Mapping[str, Rgb] = {
    "red": (214, 40, 40),
    "orange": (244, 140, 10),
    "yellow": (250, 215, 60),
    "green": (46, 150, 70),
    "cyan": (60, 200, 205),
    "blue": (40, 90, 210),
    "purple": (130, 60, 170),
    "pink": (245, 150, 185),
    "white": (242, 242, 242),
    "black": (25, 25, 25),
}
SIZES: Mapping[str, tuple[float, float]] = {
    "small": (0.28, 0.31),
    "medium": (0.34, 0.37),
    "large": (0.40, 0.43),
}
"""Bounds of the radius of the circle around a shape."""

WORDINGS = (
    "a {size} {colour} {shape} on a {texture} {ground} ground",
    "a {size} {colour} {shape} in front of a {texture} {ground} background",
    "a {texture} {ground} background with a {size} {colour} {shape}",
    "{size} {colour} {shape}, {texture} {ground} ground",
    "a picture of a {size} {colour} {shape} on {texture} {ground}",
    "the {shape} is {size} and {colour}, the background is {texture} {ground}",
    "on a {texture} {ground} ground, a {shape}, {size} and {colour}",
    "a {shape} in {colour}, {size}, over a {texture} {ground} background",
)
"""Captions, each of which says all that can be asked for."""

_PAIRS = 2**64 - 1
"""In place of a scene's index: the order of the pairs."""
_TINT = 10.0  # by which each channel of a colour varies, in bytes; less than names lie apart
_APART = 130.0  # at least, the colours of shape and ground
_TILT = 0.3  # at most, from upright
_CONTRAST = (0.05, 0.10)  # of a ground's two tones, mixed from its colour and black or white
_PERIOD = (0.16, 0.30)
_CELLS = 8  # the noise of a ground repeats after so many periods
_SPEED = 1.0  # at most, a second; from edge to edge are two
_SPIN = math.pi  # at most, a second


class State(NamedTuple):
    """Where a shape is at some time."""

    x: float
    """From -1, touching the left edge, to 1, touching the right."""
    y: float
    """From -1, touching the lower edge, to 1, touching the upper."""
    angle: float
    """Radians, anticlockwise."""


@dataclass(frozen=True, eq=False)
class Ground:
    """What lies behind the shape: two tones of one colour, mixed by a texture."""

    colour: str
    texture: str
    tint: Rgb
    contrast: float
    angle: float
    period: float
    phase: tuple[float, float]
    noise: NDArray[np.float32]
    """Levels [8, 8] in [0, 1), one a lattice point."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One shape on its ground, and how it moves."""

    shape: str
    colour: str
    size: str
    tint: Rgb
    radius: float
    start: State
    velocity: State
    """Change of the state a second."""
    ground: Ground
    wording: str
    """One of :data:`WORDINGS`."""

    @property
    def caption(self) -> str:
        """Such as ``a small red star on a striped blue ground``."""
        ground = self.ground
        return self.wording.format(
            size=self.size,
            colour=self.colour,
            shape=self.shape,
            texture=ground.texture,
            ground=ground.colour,
        )

    @property
    def attributes(self) -> Mapping[str, str]:
        """The values of :data:`ATTRIBUTES`."""
        return {
            "shape": self.shape,
            "colour": self.colour,
            "size": self.size,
            "background": self.ground.colour,
        }

    def within(self, spread: float) -> Scene:
        """The same with the shape's first place ``spread`` times as far from the middle."""
        x, y, angle = self.start
        return replace(self, start=State(spread * x, spread * y, angle))

    def at(self, seconds: float) -> State:
        """The state at a time: even motion, turned back at the edges, and even rotation."""
        x, y, angle = (
            start + speed * seconds for start, speed in zip(self.start, self.velocity, strict=True)
        )
        return State(_bounced(x), _bounced(y), angle)

    def draw(self, height: int, width: int, seconds: float = 0.0) -> NDArray[np.uint8]:
        """The picture at a time, [height, width, 3]."""
        ground = self.ground
        x, y = _grid(height, width)
        behind = TEXTURES[ground.texture](ground, *_turned(x, y, ground.angle), min(height, width))
        dark, light = _tones(ground)
        within = self.coverage(height, width, seconds)
        image = np.empty((height, width, 3), np.float32)
        for channel, value in enumerate(_tinted(self.colour, self.tint)):
            below = dark[channel] + (light[channel] - dark[channel]) * behind
            image[..., channel] = below + (value - below) * within
        return (image + 0.5).astype(np.uint8)

    def coverage(self, height: int, width: int, seconds: float = 0.0) -> Plane:
        """How much of each pixel the shape covers, in [0, 1]."""
        state, short = self.at(seconds), min(height, width)
        x, y = _grid(height, width)
        x = x - state.x * (width / short / 2 - self.radius)
        y = y - state.y * (height / short / 2 - self.radius)
        turned = _turned(x / self.radius, y / self.radius, state.angle)
        return _covered(SHAPES[self.shape](*turned) * (self.radius * short))


def scene(seed: int, index: int) -> Scene:
    """Scene ``index`` of the world ``seed``, a function of both alone; shapes take turns."""
    draws = _draws(seed, index)
    shape = list(SHAPES)[index % len(SHAPES)]
    colour = _one_of(list(COLOURS), next(draws))
    size = _one_of(list(SIZES), next(draws))
    radius = _between(*SIZES[size], next(draws))
    start = State(_signed(draws), _signed(draws), _TILT * _signed(draws))
    velocity = State(_SPEED * _signed(draws), _SPEED * _signed(draws), _SPIN * _signed(draws))
    ground = Ground(
        colour=_one_of(_against(colour), next(draws)),
        texture=_one_of(list(TEXTURES), next(draws)),
        tint=_tint(draws),
        contrast=_between(*_CONTRAST, next(draws)),
        angle=math.pi * _signed(draws),
        period=_between(*_PERIOD, next(draws)),
        phase=(next(draws), next(draws)),
        noise=np.array([next(draws) for _ in range(_CELLS**2)], np.float32).reshape(_CELLS, -1),
    )
    tint, wording = _tint(draws), _one_of(list(WORDINGS), next(draws))
    return Scene(shape, colour, size, tint, radius, start, velocity, ground, wording)


def pair(seed: int, index: int) -> tuple[str, str]:
    """Shape and colour of :func:`scene`, in a tenth of its time."""
    colour = _one_of(list(COLOURS), next(_draws(seed, index)))
    return list(SHAPES)[index % len(SHAPES)], colour


def some_pairs(seed: int, share: float) -> list[tuple[str, str]]:
    """A share of all pairs (shape, colour), at most half, spread evenly over shapes and colours.

    Pair j of the k = 8 shapes and the n = 10 shuffled colours is (j mod k, j mod n), which does not
    repeat for j below 40.
    """
    shapes, draws = list(SHAPES), _draws(seed, _PAIRS)
    colours = sorted(COLOURS, key={name: next(draws) for name in COLOURS}.__getitem__)
    count = round(share * len(shapes) * len(colours))
    return [(shapes[j % len(shapes)], colours[j % len(colours)]) for j in range(count)]


# Chance


def _draws(seed: int, index: int) -> Iterator[float]:
    """Numbers in [0, 1) from Philox, whose words NumPy promises never to change."""
    words = np.random.Philox(key=np.array([seed, index], np.uint64)).random_raw(128)
    return iter(((words >> np.uint64(11)) * 2.0**-53).tolist())


@functools.cache
def _against(colour: str) -> list[str]:
    """The colours that ``colour`` is clearly seen on."""
    return [name for name, other in COLOURS.items() if math.dist(other, COLOURS[colour]) >= _APART]


def _one_of(names: list[str], draw: float) -> str:
    return names[int(len(names) * draw)]


def _between(low: float, high: float, draw: float) -> float:
    return low + (high - low) * draw


def _signed(draws: Iterator[float]) -> float:
    return 2 * next(draws) - 1


def _tint(draws: Iterator[float]) -> Rgb:
    return (_TINT * _signed(draws), _TINT * _signed(draws), _TINT * _signed(draws))


# Space and colour


def _bounced(place: float) -> float:
    """``place`` if in [-1, 1], else as far as mirrors at both ends throw it back."""
    return 1 - abs((place + 1) % 4 - 2)


@functools.lru_cache(maxsize=8)
def _grid(height: int, width: int) -> tuple[Plane, Plane]:
    """The middle of each pixel: x [1, w] and y [h, 1]."""
    short = min(height, width)
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / short
    y = (height / 2 - 0.5 - np.arange(height, dtype=np.float32)) / short
    return x[None], y[:, None]


def _turned(x: Plane, y: Plane, angle: float) -> tuple[Plane, Plane]:
    """Coordinates along axes that are turned by ``angle``, anticlockwise."""
    cos, sin = math.cos(angle), math.sin(angle)
    return x * cos + y * sin, y * cos - x * sin


def _covered(pixels: Plane) -> Plane:
    return np.clip(0.5 - pixels, 0, 1)


def _tinted(colour: str, tint: Rgb) -> list[float]:
    return [min(max(part + by, 0), 255) for part, by in zip(COLOURS[colour], tint, strict=True)]


def _tones(ground: Ground) -> tuple[list[float], list[float]]:
    """The ground's colour mixed with black, and with white."""
    colour, mix = _tinted(ground.colour, ground.tint), ground.contrast
    return [part * (1 - mix) for part in colour], [part + (255 - part) * mix for part in colour]


# Shapes within the unit circle


def _circle(x: Plane, y: Plane) -> Plane:
    return np.sqrt(x * x + y * y) - 1


def _ring(x: Plane, y: Plane) -> Plane:
    return abs(np.sqrt(x * x + y * y) - 0.78) - 0.22


def _crescent(x: Plane, y: Plane) -> Plane:
    """The unit disc without one of radius 0.8 that is 0.5 further right."""
    return np.maximum(_circle(x, y), _circle((x - 0.5) / 0.8, y / 0.8) * -0.8)


def _square(x: Plane, y: Plane) -> Plane:
    return _box(x, y, math.sqrt(0.5), math.sqrt(0.5))


def _cross(x: Plane, y: Plane) -> Plane:
    """Two bars, three times as long as wide."""
    thin, long = math.sqrt(0.1), 3 * math.sqrt(0.1)
    return np.minimum(_box(x, y, thin, long), _box(x, y, long, thin))


def _triangle(x: Plane, y: Plane) -> Plane:
    return _sides(x, y, 3, 0.5).max(axis=0)


def _star(x: Plane, y: Plane) -> Plane:
    """The pentagram: what lies beyond one of its five lines at most."""
    return np.sort(_sides(x, -y, 5, math.cos(0.4 * math.pi)), axis=0)[-2]


def _heart(x: Plane, y: Plane) -> Plane:
    """A square of side s on its tip, with a disc of diameter s on each upper side."""
    half = 0.52
    u, v = _turned(x, y + 0.26, math.pi / 4)
    square = _box(u, v, half, half)
    right, left = (_circle(a / half, b / half) * half for a, b in ((u - half, v), (u, v - half)))
    return np.minimum(square, np.minimum(right, left))


def _box(x: Plane, y: Plane, half_width: float, half_height: float) -> Plane:
    return np.maximum(abs(x) - half_width, abs(y) - half_height)


def _sides(x: Plane, y: Plane, count: int, apothem: float) -> Plane:
    """How far beyond each of ``count`` lines around the middle, the first below; [count, h, w]."""
    angles = [math.tau * side / count - math.pi / 2 for side in range(count)]
    return np.stack([x * math.cos(angle) + y * math.sin(angle) - apothem for angle in angles])


SHAPES: Mapping[str, Callable[[Plane, Plane], Plane]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "heart": _heart,
    "crescent": _crescent,
}
"""Each shape's distance to its edge, negative inside, in radii; the order is that of the labels."""


# Textures: how light the ground is, in [0, 1]


def _striped(ground: Ground, x: Plane, y: Plane, short: int) -> Plane:
    return _covered(_wave(x, ground.period, ground.phase[0]) * short)


def _checked(ground: Ground, x: Plane, y: Plane, short: int) -> Plane:
    a, b = (
        _wave(axis, 2 * ground.period, phase)
        for axis, phase in zip((x, y), ground.phase, strict=True)
    )
    return _covered(np.sign(a) * np.sign(b) * np.minimum(abs(a), abs(b)) * short)


def _shaded(ground: Ground, x: Plane, y: Plane, short: int) -> Plane:
    return np.clip(0.5 + x * math.sqrt(0.5), 0, 1)


def _mottled(ground: Ground, x: Plane, y: Plane, short: int) -> Plane:
    """Levels of the lattice, joined by the cubic 3 t² - 2 t³."""
    u, v = (
        axis / ground.period + _CELLS * phase
        for axis, phase in zip((x, y), ground.phase, strict=True)
    )
    column, row = np.floor(u), np.floor(v)
    s, t = (part * part * (3 - 2 * part) for part in (u - column, v - row))
    i, j = column.astype(np.int32) % _CELLS, row.astype(np.int32) % _CELLS
    near, far = (
        ground.noise[i, line] * (1 - s) + ground.noise[(i + 1) % _CELLS, line] * s
        for line in (j, (j + 1) % _CELLS)
    )
    return near * (1 - t) + far * t


def _wave(x: Plane, period: float, phase: float) -> Plane:
    """Distance to the next border of bars half a period wide, negative in every other one."""
    t = x / period + phase
    return (abs(t - np.floor(t) - 0.5) - 0.25) * period


TEXTURES: Mapping[str, Callable[[Ground, Plane, Plane, int], Plane]] = {
    "striped": _striped,
    "checked": _checked,
    "shaded": _shaded,
    "mottled": _mottled,
}
"""Each texture over coordinates along the ground's axes; the last argument is pixels a unit."""
ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "shape": tuple(SHAPES),
    "colour": tuple(COLOURS),
    "size": tuple(SIZES),
    "background": tuple(COLOURS),
}
"""What a caption asks for and a classifier can tell: each attribute's values."""
