import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sid2core.data.errors import DataError
from sid2core.data.load.reading import Shards
from sid2core.data.load.shards import Layout
from tests.data import stored

LAYOUT = Layout((4, 5, 3), ("cat", "dog"), "train")
SIZES = ((3, 3, 2), (3,))
CURE = "run `dvc repro --force prepare` to write it again"


def write(folder, layout=LAYOUT, sizes=SIZES, **changes):
    count = sum(map(sum, sizes))
    images, labels = stored.records(count, layout.shape)
    return stored.shards(folder, layout, images, labels, sizes, **changes), images, labels


def everything(shards):
    return np.concatenate([shards.images(number) for number in range(len(shards.sizes))])


@pytest.mark.parametrize("sizes", [((1,),), ((3, 3, 2), (3,)), ((256,), (7, 7), (1,))])
@pytest.mark.parametrize("shape", [(4, 5, 3), (1, 1, 1), (2, 4, 4, 3)])
def test_row_groups_come_as_they_were_written(tmp_path, shape, sizes):
    layout = Layout(shape, ("cat", "dog"), "eval")
    paths, images, labels = write(tmp_path, layout, sizes)
    shards = Shards(paths, layout)
    assert shards.sizes.tolist() == [size for groups in sizes for size in groups]
    assert shards.images(len(shards.sizes) - 1).tolist() == images[-sizes[-1][-1] :].tolist()
    np.testing.assert_array_equal(everything(shards), images)
    assert (shards.labels.dtype, shards.labels.tolist()) == (np.int32, labels.tolist())
    assert shards.column("key") == [f"r/{row}" for row in range(len(images))]


def test_pixels_are_a_view_of_arrows_memory_that_nobody_writes_to(unchecked, tmp_path):
    paths, _, _ = write(tmp_path, sizes=((64, 64),))
    shards = Shards(paths, LAYOUT)
    before = pa.total_allocated_bytes()
    image = shards.images(1)
    # Arrow rounds up to multiples of 64 bytes.
    assert image.nbytes <= pa.total_allocated_bytes() - before < image.nbytes + 1024
    for array in (image, shards.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    del image
    assert pa.total_allocated_bytes() == before


def test_captions_are_read_where_there_are_any(tmp_path):
    layout = Layout((4, 5, 3), ("cat", "dog"), "train", captioned=True)
    captions = [["a cat", "cats"], [], [""], ["ein Hund"], *[["x"]] * 7]
    paths, images, _ = write(tmp_path, layout, captions=captions)
    shards = Shards(paths, layout)
    assert shards.column("captions") == captions
    np.testing.assert_array_equal(everything(shards), images)
    with pytest.raises(DataError, match="has columns"):
        Shards(paths, LAYOUT)


def test_compressed_shards_are_read_as_well(tmp_path):
    paths, images, _ = write(tmp_path)
    for path in paths:
        table = pq.read_table(path)
        pq.write_table(table, path, row_group_size=3, compression="zstd", use_dictionary=True)
    np.testing.assert_array_equal(everything(Shards(paths, LAYOUT)), images)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (Layout((5, 4, 3), ("cat", "dog"), "train"), r"has shape \[4, 5, 3\].*says \[5, 4, 3\]"),
        (Layout((4, 5, 3), ("dog", "cat"), "train"), "has class_names"),
        (Layout((4, 5, 3), ("cat", "dog"), "eval"), "has split 'train'.*says 'eval'"),
    ],
)
def test_a_shard_of_another_layout_is_refused(tmp_path, expected, message):
    paths, _, _ = write(tmp_path)
    with pytest.raises(DataError, match=f"{message}.*{CURE}"):
        Shards(paths, expected)


def test_one_strange_shard_among_good_ones_is_refused(tmp_path):
    good, _, _ = write(tmp_path / "a")
    strange, _, _ = write(tmp_path / "b", Layout((4, 5, 3), ("cat", "cow"), "train"), ((5,),))
    with pytest.raises(DataError, match="b/train-00000-of-00001.parquet has class_names"):
        Shards([*good, *strange], LAYOUT)


def test_other_files_are_refused(tmp_path):
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"image": [b"x"]}), foreign)
    message = f"foreign.parquet is missing, damaged or no shard of this project.*{CURE}"
    with pytest.raises(DataError, match=message):
        Shards([foreign], LAYOUT)
    foreign.write_bytes(b"not parquet")
    with pytest.raises(DataError, match=message):
        Shards([foreign], LAYOUT)
    with pytest.raises(DataError, match=r"missing\.parquet is missing"):
        Shards([tmp_path / "missing.parquet"], LAYOUT)


def test_columns_that_belie_the_metadata_are_refused(tmp_path):
    schema = pa.schema([pa.field("image", pa.binary(7))], LAYOUT.schema().metadata)
    path = tmp_path / "strange.parquet"
    pq.write_table(pa.table({"image": pa.array([b"1234567"], pa.binary(7))}, schema=schema), path)
    with pytest.raises(DataError, match="has columns"):
        Shards([path], LAYOUT)


def damaged(path, start, stop):
    """The same size and time, other bytes."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[start:stop] = b"\xff" * (stop - start)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_page_that_cannot_be_read_names_its_shard(tmp_path):
    (_, path), images, _ = write(tmp_path)
    shards = Shards([tmp_path / "train-00000-of-00002.parquet", path], LAYOUT)
    damaged(path, 4, 20)  # the header of the first page, after the magic bytes
    with pytest.raises(DataError, match=f"train-00001-of-00002.parquet is missing, dam.*{CURE}"):
        shards.images(3)
    np.testing.assert_array_equal(shards.images(0), images[:3])


@pytest.mark.parametrize("change", ["cut", "gone", "replaced"])
def test_a_shard_that_changes_under_a_run_is_noticed(tmp_path, change):
    (path, _), _, _ = write(tmp_path)
    shards = Shards([path], LAYOUT)
    shards.images(0)
    content = path.read_bytes()
    if change == "cut":
        path.write_bytes(content[:-100])
    elif change == "gone":
        path.unlink()
    else:
        other = path.with_name("other")
        other.write_bytes(content)
        other.replace(path)
    message = "is missing" if change == "gone" else "was replaced while it was in use"
    with pytest.raises(DataError, match=f"train-00000-of-00002.parquet {message}"):
        shards.images(0)
