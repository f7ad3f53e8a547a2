import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sid2core.data.load.reading import Shards
from sid2core.data.load.shards import Layout
from tests.data import made

LAYOUT = Layout((4, 5, 3), ("cat", "dog"), "train")


def records_of(count, shape=(4, 5, 3), seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
    return [made.record(f"r/{index:03d}", image, index % 2) for index, image in enumerate(images)]


def write(folder, records, layout=LAYOUT, shard_records=8, row_group_records=3):
    names = made.write(
        folder, layout, records, shard_records=shard_records, row_group_records=row_group_records
    )
    return [folder / name for name in names]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 24, 25])
@pytest.mark.parametrize("shape", [(4, 5, 3), (1, 1, 1), (2, 4, 4, 3)])
def test_round_trip(tmp_path, count, shape):
    layout = Layout(shape, ("cat", "dog"), "eval")
    records = records_of(count, shape)
    found = Shards(write(tmp_path, records, layout), layout)
    images = np.concatenate([found.images(number) for number in range(len(found.sizes))])
    np.testing.assert_array_equal(images, np.stack([record.image for record in records]))
    assert found.labels.tolist() == [record.label for record in records]
    assert found.column("key") == [record.key for record in records]


def test_names_sizes_and_row_groups(tmp_path):
    paths = write(tmp_path, records_of(19))
    assert [path.name for path in paths] == [
        "train-00000-of-00003.parquet",
        "train-00001-of-00003.parquet",
        "train-00002-of-00003.parquet",
    ]
    sizes = []
    for path in paths:
        metadata = pq.ParquetFile(path).metadata
        sizes.append([metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)])
    assert sizes == [[3, 3, 2], [3, 3, 2], [3]]


def test_columns_are_plain_to_any_parquet_reader(tmp_path):
    (path,) = write(tmp_path, records_of(5))
    table = pq.read_table(path)
    assert table.schema.field("image").type == pa.binary(60)
    assert table.column("image")[4].as_py() == records_of(5)[4].image.tobytes()
    assert table.column("label").to_pylist() == [0, 1, 0, 1, 0]
    assert b'"channels": 3' in table.schema.metadata[b"sid2"]


def test_bytes_depend_on_the_records_alone(tmp_path):
    one, other = write(tmp_path / "a", records_of(19)), write(tmp_path / "b", records_of(19))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    changed = write(tmp_path / "c", records_of(19, seed=1))
    assert changed[0].read_bytes() != one[0].read_bytes()
