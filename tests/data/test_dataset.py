import numpy as np
import pytest

from sid2core import artifact
from sid2core.data import shards
from sid2core.data.dataset import Dataset
from sid2core.data.errors import DataError
from sid2core.data.records import Record


def prepare(root, labels, **changes):
    shape = (3, 2, 1)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), *shape), dtype=np.uint8)
    records = [
        Record(f"r/{i}", image, label)
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    layout = shards.Layout(shape, ("a", "b", "c"), "train")
    with artifact.create("prepare", {}, root=root) as draft:
        names = shards.write(draft.folder, layout, records, shard_records=4, row_group_records=2)
        train = {"records": len(records), "shards": names} | changes.pop("train", {})
        facts = {"shape": list(shape), "class_names": ["a", "b", "c"], "splits": {"train": train}}
        draft.facts |= facts | changes
    return artifact.load("prepare", root=root), images


def test_open_reads_all_shards_in_order(tmp_path):
    made, images = prepare(tmp_path, [0, 1, 2, 0, 1, 2, 0, 1, 2])
    dataset = Dataset.open(made, "train")
    np.testing.assert_array_equal(dataset.images, images)
    assert dataset.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2]
    assert dataset.keys == tuple(f"r/{i}" for i in range(9))
    assert (len(dataset), dataset.shape, dataset.num_classes) == (9, (3, 2, 1), 3)
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.split == "train"


def test_arrays_are_read_only(tmp_path):
    dataset = Dataset.open(prepare(tmp_path, [0, 1])[0], "train")
    with pytest.raises(ValueError, match="read-only"):
        dataset.images[0] = 0


def test_unknown_split_is_named(tmp_path):
    with pytest.raises(DataError, match="no split 'test'; it has train"):
        Dataset.open(prepare(tmp_path, [0])[0], "test")


@pytest.mark.parametrize(
    ("labels", "changes", "message"),
    [
        ([0, 1], {"class_names": ["a", "b"]}, "has class_names"),
        ([0, 1], {"shape": [2, 3, 1]}, "has shape"),
        ([0, 1], {"train": {"records": 3}}, "has 2 train images, its facts say 3"),
        ([0, 3], {}, "labels 0 to 3; 3 classes need 0 to 2"),
        ([], {}, "has 0 train images"),
    ],
)
def test_shards_that_belie_the_facts_are_refused(tmp_path, labels, changes, message):
    made, _ = prepare(tmp_path, labels, **changes)
    with pytest.raises(DataError, match=message):
        Dataset.open(made, "train")
