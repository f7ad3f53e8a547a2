import hashlib
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path

from sid2core.data.sources import scenes
from sid2core.data.sources.scenes import COLOURS, SHAPES, SIZES, TEXTURES, State

INDICES = st.integers(0, 2**40)
SECONDS = st.floats(0, 100)
DIGEST = "46151d41714d285b80b07a4f7852828b2329f2f211ab7e9c222b864459cad0e2"
STATES = st.builds(
    State, st.floats(-1, 1), st.floats(-1, 1), st.floats(-math.pi, math.pi, exclude_min=True)
)


PENTAGRAM = math.cos(0.4 * math.pi) / math.cos(0.2 * math.pi)
"""Inner corners of the star, in radii."""
SIGNS = [(1, 1), (-1, 1), (-1, -1), (1, -1)]


def lens(radius, distance):
    """The area that a disc shares with the unit disc."""
    near = (distance**2 + 1 - radius**2) / (2 * distance)
    far = distance - near
    chord = math.sqrt(1 - near**2)
    return math.acos(near) + radius**2 * math.acos(far / radius) - distance * chord


AREAS = {
    "circle": math.pi,
    "square": 2.0,
    "triangle": 0.75 * math.sqrt(3),
    "star": 5 * math.sin(0.2 * math.pi) * PENTAGRAM,
    "cross": 2.0,  # five squares of side sqrt(0.4)
    "ring": math.pi * (1 - 0.56**2),
    "heart": 4 * 0.52**2 + math.pi * 0.52**2,
    "crescent": math.pi - lens(0.8, 0.5),
}


def shown(shape, state=State(0, 0, 0), radius=0.4):  # noqa: B008
    return replace(scenes.scene(0, 0), shape=shape, start=state, radius=radius)


def corners(shape):
    """The polygon's corners, each [x, y], at angle 0."""
    if shape == "square":
        return [(a * math.sqrt(0.5), b * math.sqrt(0.5)) for a, b in SIGNS]
    if shape == "cross":
        thin, long = math.sqrt(0.1), math.sqrt(0.9)
        quarter = [(long, -thin), (long, thin), (thin, thin)]
        turned = [(quarter, 1, 0), (quarter, 0, 1), (quarter, -1, 0), (quarter, 0, -1)]
        return [(c * x - s * y, s * x + c * y) for part, c, s in turned for x, y in part]
    count, inner = {"triangle": (3, 0.5), "star": (5, PENTAGRAM)}[shape]
    turns = [(math.pi * turn / count + math.pi / 2, turn % 2) for turn in range(2 * count)]
    radii = [(angle, inner if odd else 1.0) for angle, odd in turns]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle, radius in radii]


def nearest(colour):
    """The name whose colour is nearest to ``colour`` [3]."""
    return min(COLOURS, key=lambda name: math.dist(COLOURS[name], colour))


def pooled(picture, factor):
    height, width = (side // factor for side in picture.shape[:2])
    return picture.reshape(height, factor, width, factor, -1).mean(axis=(1, 3))


# Chance


def test_a_scene_is_a_function_of_seed_and_index_and_its_pixels_never_change():
    pictures = [scenes.scene(seed, index).draw(32, 32) for seed in (0, 1) for index in range(16)]
    assert len({picture.tobytes() for picture in pictures}) == 32
    backwards = [scenes.scene(seed, index).draw(32, 32) for seed in (1, 0) for index in range(16)]
    np.testing.assert_array_equal(np.stack(pictures), np.stack(backwards[16:] + backwards[:16]))
    # Every texture and shape is among them: shards of another machine must have the same bytes.
    assert hashlib.sha256(np.stack(pictures)).hexdigest() == DIGEST


def test_everything_comes_about_equally_often():
    many = [scenes.scene(0, index) for index in range(4000)]
    for names, found in (
        (SHAPES, [one.shape for one in many]),
        (COLOURS, [one.colour for one in many]),
        (SIZES, [one.size for one in many]),
        (TEXTURES, [one.ground.texture for one in many]),
        (scenes.WORDINGS, [one.wording for one in many]),
    ):
        counts, fair = Counter(found), len(many) / len(names)
        assert set(counts) == set(names)
        # Five standard deviations of a binomial count.
        assert all(abs(count - fair) < 5 * math.sqrt(fair) for count in counts.values())
    assert {one.ground.colour for one in many} == set(COLOURS)
    assert len({one.caption for one in many}) > 2500


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5])
def test_some_pairs_are_spread_evenly_over_shapes_and_colours(share):
    pairs = scenes.some_pairs(3, share)
    assert len(set(pairs)) == len(pairs) == round(80 * share)
    for names, found in zip((SHAPES, COLOURS), zip(*pairs, strict=True), strict=False):
        counts = [Counter(found)[name] for name in names]
        assert max(counts) - min(counts) <= 1
    assert share == 0.0 or pairs != scenes.some_pairs(4, share)


@settings(max_examples=30, deadline=None)
@given(index=INDICES)
def test_a_pair_is_that_of_the_scene(index):
    scene = scenes.scene(5, index)
    assert scenes.pair(5, index) == (scene.shape, scene.colour)


# Shapes


@pytest.mark.parametrize("size", [32, 64, 256])
@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=10, deadline=None)
@given(state=STATES, radius=st.floats(0.2, 0.42))
def test_areas_are_those_of_geometry_and_nothing_is_cut_off(shape, size, state, radius):
    covered = shown(shape, state, radius).coverage(size, size)
    expected = AREAS[shape] * (radius * size) ** 2
    # The error is that of corners and curves, so it falls with their share of the area.
    assert covered.sum() == pytest.approx(expected, rel=0.5 / (radius * size))
    assert (covered.min(), covered.max()) == (0, 1)


@pytest.mark.parametrize("shape", ["square", "triangle", "star", "cross"])
@given(angle=st.floats(-math.pi, math.pi))
@settings(max_examples=10, deadline=None)
def test_polygons_have_their_corners(shape, angle):
    """matplotlib's point in polygon says the same of every pixel that is not on the edge."""
    size, radius = 64, 0.4
    covered = shown(shape, State(0, 0, angle), radius).coverage(size, size)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    polygon = Path(radius * np.array(corners(shape)) @ turn)
    places = (np.arange(size) + 0.5) / size - 0.5
    x, y = np.meshgrid(places, -places)
    inside = polygon.contains_points(np.stack([x, y], -1).reshape(-1, 2)).reshape(size, size)
    clear = (covered == 0) | (covered == 1)
    np.testing.assert_array_equal(covered[clear], inside[clear])
    assert clear.mean() > 0.85


def test_the_open_shapes_are_open_where_they_should_be():
    ring, crescent, heart = (shown(name).coverage(65, 65) for name in ("ring", "crescent", "heart"))
    assert (ring[32, 32], ring[32, 32 + 20]) == (0, 1)
    assert (crescent[32, 32], crescent[32, 32 - 20], crescent[32, 32 + 20]) == (0, 1, 0)
    assert [heart[18, 32 + across] for across in (-10, 0, 10)] == [1, 0, 1]
    assert (heart[32 + 20, 32], heart[32 - 20, 32]) == (1, 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_point_is_beyond_the_unit_circle(shape):
    places = np.linspace(-1.5, 1.5, 301, dtype=np.float32)
    x, y = np.meshgrid(places, places)
    inside = np.broadcast_to(SHAPES[shape](x, y) < 0, x.shape)
    assert np.hypot(x, y)[inside].max() <= 1.0
    assert inside.any()


# Pictures


@settings(max_examples=60, deadline=None)
@given(index=INDICES)
def test_the_caption_is_true_of_the_picture(index):
    scene = scenes.scene(7, index)
    picture, covered = scene.draw(48, 48).astype(float), scene.coverage(48, 48)
    colour, ground = (nearest(picture[covered == part].mean(axis=0)) for part in (1, 0))
    words = {"size": scene.size, "colour": colour, "shape": scene.shape}
    words |= {"texture": scene.ground.texture, "ground": ground}
    assert scene.caption == scene.wording.format(**words)
    assert all(word in scene.caption for word in words.values())
    attributes = {"shape": scene.shape, "colour": colour, "size": scene.size, "background": ground}
    assert scene.attributes == attributes
    assert all(value in scenes.ATTRIBUTES[name] for name, value in attributes.items())
    low, high = SIZES[scene.size]
    radius = math.sqrt(covered.sum() / AREAS[scene.shape]) / 48
    assert low - 0.01 < radius < high + 0.01
    assert math.dist(COLOURS[scene.colour], COLOURS[scene.ground.colour]) > 100


def test_colours_lie_further_apart_than_they_vary():
    apart = [math.dist(a, b) for a in COLOURS.values() for b in COLOURS.values() if a != b]
    assert min(apart) > 2 * math.sqrt(3) * 10


@settings(max_examples=40, deadline=None)
@given(index=INDICES, size=st.sampled_from([(32, 32), (24, 40), (33, 32)]))
def test_a_larger_picture_shows_the_same(index, size):
    scene, (height, width) = scenes.scene(0, index), size
    small, large = scene.draw(height, width), scene.draw(4 * height, 4 * width)
    assert (small.dtype, small.shape) == (np.uint8, (height, width, 3))
    difference = np.abs(pooled(large, 4) - small)
    assert difference.mean() < 2.5
    assert np.quantile(difference, 0.99) < 40


# Textures


def ground(texture, **values):
    return replace(scenes.scene(0, 0).ground, texture=texture, phase=(0.0, 0.0), **values)


def woven(texture, x, y, period=0.25):
    x, y = (np.atleast_1d(np.float32(axis)) for axis in (x, y))
    made = TEXTURES[texture](ground(texture, period=period), x, y, 1000)
    return np.asarray(made)


PLACES = st.floats(-2, 2, width=32)


@given(x=PLACES, y=PLACES, other=PLACES)
def test_stripes_repeat_across_and_stay_along(x, y, other):
    value = woven("striped", x, y)
    assert woven("striped", x, other) == value
    assert woven("striped", x + 0.25, y) == pytest.approx(value, abs=1e-3)
    assert woven("striped", x + 0.125, y) == pytest.approx(1 - value, abs=1e-3)


@given(x=PLACES, y=PLACES)
def test_checks_change_colour_with_every_square(x, y):
    value = woven("checked", x, y)
    assert woven("checked", x + 0.25, y) == pytest.approx(1 - value, abs=1e-3)
    assert woven("checked", x, y + 0.25) == pytest.approx(1 - value, abs=1e-3)
    assert woven("checked", x + 0.25, y - 0.25) == pytest.approx(value, abs=1e-3)


@given(x=PLACES, y=PLACES)
def test_shading_is_even_and_ends_at_the_corners(x, y):
    expected = min(max(0.5 + x / math.sqrt(2), 0), 1)
    assert woven("shaded", x, y) == pytest.approx(expected, abs=1e-6)


def test_mottles_are_their_noise_at_the_lattice_and_lie_between_it_elsewhere():
    noise = ground("mottled").noise
    column, row = np.meshgrid(np.arange(-8, 16), np.arange(-8, 16))
    at_lattice = woven("mottled", 0.25 * column, 0.25 * row)
    np.testing.assert_array_equal(at_lattice, noise[column % 8, row % 8])
    middle = woven("mottled", np.float32([[0.125]]), np.float32([[0.125]]))
    assert middle.item() == pytest.approx(noise[:2, :2].mean(), abs=1e-6)


# Motion


@settings(deadline=None)
@given(index=INDICES, seconds=SECONDS, moment=st.floats(0, 0.1))
def test_motion_is_steady_and_keeps_within_the_picture(index, seconds, moment):
    scene = scenes.scene(0, index)
    here, there = scene.at(seconds), scene.at(seconds + moment)
    for part, (before, after, speed) in enumerate(zip(here, there, scene.velocity, strict=True)):
        assert part == 2 or abs(after) <= 1
        assert abs(after - before) <= abs(speed) * moment + 1e-9
    assert abs(there.angle - here.angle) == pytest.approx(
        abs(scene.velocity.angle) * moment, abs=1e-9
    )


@given(index=INDICES)
def test_at_time_nought_a_scene_is_where_it_starts(index):
    scene = scenes.scene(0, index)
    assert scene.at(0) == pytest.approx(scene.start)


def test_a_wall_throws_back():
    scene = replace(scenes.scene(0, 0), start=State(0.5, 0, 0), velocity=State(1.0, -2.0, 3.0))
    places = [(0.25, 0.75, -0.5), (1.0, 0.5, 0.0), (2.5, -1.0, -1.0), (4.0, 0.5, 0.0)]
    for seconds, x, y in places:
        assert scene.at(seconds) == pytest.approx(State(x, y, 3 * seconds))


def test_frames_differ_by_the_motion_alone():
    scene = replace(scenes.scene(0, 0), velocity=State(0.5, 0.3, 2.0))
    first, later = (scene.draw(32, 32, seconds) for seconds in (0.0, 1.0))
    covered = scene.coverage(32, 32, 0.0) + scene.coverage(32, 32, 1.0)
    changed = (first != later).any(axis=-1)
    assert changed.any()
    assert not changed[covered == 0].any()
    moved = replace(scene, start=scene.at(1.0))
    np.testing.assert_array_equal(later, moved.draw(32, 32))
