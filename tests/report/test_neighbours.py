"""Nearest neighbours compared with the plain definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sid2core.report import neighbours


def brute_force(queries: NDArray, pool: NDArray, count: int) -> tuple[NDArray, NDArray]:
    """Every difference, one by one."""
    table = np.array(
        [[np.linalg.norm((q / 255.0 - p / 255.0).ravel()) for p in pool] for q in queries]
    )
    order = np.argsort(table, 1, kind="stable")[:, :count]
    return np.take_along_axis(table, order, 1), order


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(4, 6, 1), (8, 8, 3), (1, 1, 1)]))
def test_distances_follow_the_definition(seed: int, shape: tuple[int, int, int]) -> None:
    random = np.random.default_rng(seed)
    queries = random.integers(0, 256, (5, *shape)).astype(np.uint8)
    pool = random.integers(0, 256, (17, *shape)).astype(np.uint8)
    distance, index = brute_force(queries, pool, 3)
    found = neighbours.nearest(queries, [pool[:6], pool[6:]], 3)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-12, atol=1e-12)
    picked = np.linalg.norm(
        (pool[found.index].astype(float) - queries[:, None]).reshape(5, 3, -1) / 255, axis=-1
    )
    np.testing.assert_allclose(picked, distance, rtol=1e-12, atol=1e-12)
    if len(np.unique(pool, axis=0)) == len(pool) and shape != (1, 1, 1):
        np.testing.assert_array_equal(found.index, index)


def test_the_result_does_not_depend_on_the_chunks() -> None:
    random = np.random.default_rng(7)
    queries, pool = (random.integers(0, 4, (n, 3, 3, 1)).astype(np.uint8) for n in (6, 40))
    whole = neighbours.nearest(queries, [pool], 4)
    parts = neighbours.nearest(queries, (pool[start : start + 7] for start in range(0, 40, 7)), 4)
    np.testing.assert_array_equal(whole.index, parts.index)
    np.testing.assert_array_equal(whole.distance, parts.distance)


def test_equal_images_have_distance_zero_and_the_first_is_returned() -> None:
    pool = np.random.default_rng(8).integers(0, 256, (9, 16, 16, 3)).astype(np.uint8)
    pool[6] = pool[2]
    found = neighbours.nearest(pool[[6, 4]], [pool], 2)
    assert found.distance[0].tolist() == [0, 0]
    assert found.index[0].tolist() == [2, 6]
    assert (found.index[1, 0], found.distance[1, 0]) == (4, 0)


def test_large_images_are_averaged_first() -> None:
    random = np.random.default_rng(9)
    queries, pool = (random.integers(0, 256, (n, 128, 128, 1)).astype(np.uint8) for n in (2, 5))
    small = [x.reshape(-1, 64, 2, 64, 2, 1).mean((2, 4)) for x in (queries, pool)]
    expected, _ = brute_force(*small, 2)
    np.testing.assert_allclose(
        neighbours.nearest(queries, [pool], 2).distance, expected, rtol=1e-12
    )


@pytest.mark.parametrize(
    ("size", "factor"),
    [((8, 8), 1), ((128, 128), 2), ((512, 512), 8), ((96, 192), 3), ((67, 67), 67)],
)
def test_box(size: tuple[int, int], factor: int) -> None:
    assert neighbours.box(*size) == factor


def test_too_small_a_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="2 images to search, 3 neighbours"):
        neighbours.nearest(np.zeros((1, 2, 2, 1), np.uint8), [np.zeros((2, 2, 2, 1), np.uint8)], 3)


def test_first_of_each_class() -> None:
    labels = np.array([1, 1, 0, 2, 0, 1], np.int32)
    assert neighbours.first_of_each_class(labels, 5).tolist() == [2, 0, 3, 4, 1]
