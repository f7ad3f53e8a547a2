import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sid2core.config import ParamsError, clip_shape
from sid2core.data.errors import DataError
from sid2core.data.load.dataset import Dataset
from tests import tiny
from tests.data import stored
from tests.refusals import refused


def prepare(root, labels, **metadata):
    images, _ = stored.records(len(labels), (3, 2, 1))
    sizes, left = [], len(labels)
    while left:
        sizes.append(tuple(size for size in (min(left, 2), min(max(left - 2, 0), 2)) if size))
        left -= sum(sizes[-1])
    return stored.prepared(root, images, labels, sizes=tuple(sizes), **metadata), images


def test_open_knows_labels_and_reads_images_when_they_are_asked_for(tmp_path):
    made, images = prepare(tmp_path, [0, 1, 2, 0, 1, 2, 0, 1, 2])
    dataset = Dataset.open(made, "train")
    assert dataset.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2]
    assert (len(dataset), dataset.shape, dataset.num_classes) == (9, (3, 2, 1), 3)
    assert (dataset.class_names, dataset.split) == (("a", "b", "c"), "train")
    assert dataset.keys == tuple(f"r/{i}" for i in range(9))
    assert dataset.cache.reads == 0
    np.testing.assert_array_equal(dataset.images, images)
    assert dataset.cache.reads == len(dataset.groups.sizes) == 5
    np.testing.assert_array_equal(dataset.take([8, 0, 0]), images[[8, 0, 0]])
    assert dataset.cache.reads == 5


def test_captions_are_there_if_prepare_says_so(tmp_path):
    made, _ = prepare(tmp_path, [0, 1])
    with pytest.raises(DataError, match="train-00000-of-00001.parquet"):
        _ = Dataset.open(made, "train").captions
    made, _ = prepare(tmp_path, [0, 1], captioned=True)
    with pytest.raises(DataError, match="has columns"):
        Dataset.open(made, "train")


def test_unknown_split_is_named(tmp_path):
    with pytest.raises(DataError, match="no split 'test'; it has train"):
        Dataset.open(prepare(tmp_path, [0])[0], "test")


@pytest.mark.parametrize(
    ("labels", "changes", "message"),
    [
        ([0, 1], {"class_names": ["a", "b"]}, "has class_names"),
        ([0, 1], {"shape": [2, 3, 1]}, "has shape"),
        ([0, 1], {"train": {"records": 3}}, "has 2 train images, its manifest says 3"),
        ([0, 3], {}, "labels 0 to 3; 3 classes need 0 to 2"),
        ([], {}, "has 0 train images"),
    ],
)
def test_shards_that_contradict_the_metadata_are_refused(tmp_path, labels, changes, message):
    made, _ = prepare(tmp_path, labels, **changes)
    with pytest.raises(DataError, match=message):
        Dataset.open(made, "train")


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=8),
    st.lists(st.integers(0, 10**6), max_size=30),
    st.sampled_from([0.0, 1e-4, 1.0]),
    st.booleans(),
)
def test_rows_come_as_asked_whatever_fits_into_memory(sizes, rows, cache_mib, together):
    dataset = stored.numbered(sizes, cache_mib=cache_mib)
    rows = [row % len(dataset) for row in rows]
    images = dataset.take(rows, together=together)
    assert (images.shape, images.dtype) == ((len(rows), 2, 2, 1), np.uint8)
    assert stored.numbers(images).tolist() == rows


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(1, 20))
def test_chunks_are_all_there_is_in_stored_order(sizes, size):
    dataset = stored.numbered(sizes)
    images, labels = zip(*dataset.chunks(size), strict=True)
    assert {len(one) for one in images[:-1]} <= {size}
    expected = list(range(len(dataset)))
    assert stored.numbers(np.concatenate(images)).tolist() == expected
    assert np.concatenate(labels).tolist() == expected


@pytest.mark.parametrize("rows", [[-1], [0, 10], [10**12]])
def test_rows_that_are_not_there_are_refused(rows):
    with pytest.raises(IndexError, match="there are 0 to 9"):
        stored.numbered([4, 6]).take(rows)


def test_what_is_taken_may_be_written_to():
    dataset = stored.numbered([4, 6])
    dataset.take([5])[:] = 255
    assert stored.numbers(dataset.take([5])).tolist() == [5]


def test_a_pass_in_stored_order_reads_each_row_group_once_with_room_for_one():
    dataset = stored.numbered([5] * 20, cache_mib=0.0)
    for _ in dataset.chunks(7):
        assert dataset.cache.held <= 5 * 4
    assert dataset.groups.read == list(range(20))


def test_row_groups_that_are_used_together_are_read_once_though_the_cache_is_small():
    dataset = stored.numbered([5] * 20, cache_mib=0.0)
    rows = np.arange(0, 100, 5)
    for _ in range(3):
        dataset.take(rows, together=True)
    assert dataset.groups.read == list(range(20))
    assert dataset.cache.held == 100 * 4


MIB = 2**20
PEAK = """
    import numpy as np
    import psutil
    from sid2core.pipeline import artifact
    from sid2core.data.load.dataset import Dataset
    from sid2core.data.load.loader import Loader

    resident = lambda: psutil.Process().memory_info().rss
    dataset = Dataset.open(artifact.load("prepare"), "train", cache_mib=16)
    loader = Loader(dataset, 64, 0, process_index=0, process_count=1)
    dataset.take(loader.indices(0)[:1])
    before, most = resident(), 0
    for step in range(len(dataset) // 64):
        loader.batch(step)
        most = max(most, resident())
    print(most - before, dataset.cache.held, dataset.cache.limit, dataset.cache.reads)
"""


def test_resident_memory_is_that_of_the_cache_however_large_the_split(tmp_path):
    """128 MiB of images through a cache of 16: measured from outside, in a process of its own."""
    image = np.zeros((96, 96, 3), np.uint8)
    count = 128 * MIB // image.nbytes
    images = np.broadcast_to(image, (count, *image.shape))
    sizes = [(8,) * 20] * (count // 160)
    images = images[: 160 * len(sizes)]
    stored.prepared(tmp_path / "artifacts", images, np.zeros(len(images), int), sizes=sizes)
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PEAK)],
        cwd=tmp_path,
        env=tiny.environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    grown, held, limit, reads = map(int, found.stdout.split())
    assert held <= limit == 16 * MIB
    # One row group in the reading, twice; a batch, twice; and what the allocator rounds up.
    assert grown < limit + 2 * 8 * image.nbytes + 2 * 64 * image.nbytes + 16 * MIB
    assert grown < images.nbytes / 2
    assert len(images) / 8 <= reads < 1.5 * len(images) / 8


def test_of_clips_a_window_in_time_is_read():
    """The first one, unless starts say otherwise; whatever row groups the clips are in."""
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 2, 3, 1), np.uint8)
    whole = stored.dataset(images, np.zeros(5), ["one"], [2, 3])
    cropped = replace(whole, clip_frames=4)
    assert (whole.shape, whole.room) == ((6, 2, 3, 1), 0)
    assert (cropped.shape, cropped.room) == ((4, 2, 3, 1), 2)
    rows, starts = [4, 0, 1, 3], np.array([2, 0, 1, 2])
    np.testing.assert_array_equal(cropped.take(rows), images[rows, :4])
    np.testing.assert_array_equal(cropped.images, images[:, :4])
    expected = [images[row, start : start + 4] for row, start in zip(rows, starts, strict=True)]
    np.testing.assert_array_equal(cropped.take(rows, starts=starts), expected)
    assert replace(whole, clip_frames=6).room == 0


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((8, 4, 4, 1), "found 9; clips have 8 frames: set it to null, or lower it"),
        ((4, 4, 1), "found 9; the data are images: set it to null"),
    ],
)
def test_a_window_that_does_not_fit_is_refused(shape, message):
    with refused(ParamsError, "loader.clip_frames", message):
        clip_shape(shape, 9)
