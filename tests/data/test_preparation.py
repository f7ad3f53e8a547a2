import csv
import gc
import tracemalloc
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow.parquet as pq
import pytest

from sid2core.data import preparation, shards
from sid2core.data.errors import DataError, Unusable
from sid2core.data.preparation import Part, Reject
from sid2core.data.records import Entry
from tests import tiny
from tests.data import pictures

SIZES = tiny.params(data={"shard_records": 10, "row_group_records": 4}).data


@dataclass
class Counted:
    """A source of noise that knows how many of its images are alive."""

    size: int
    shape: tuple[int, ...] = (4, 4, 1)
    broken: frozenset[str] = frozenset()
    reason: str = "broken"
    class_names: tuple[str, ...] = ("a", "b")
    decoding: Mapping[str, str] = field(default_factory=dict)
    alive: weakref.WeakSet = field(default_factory=weakref.WeakSet)
    most: int = 0
    asked: list[str] = field(default_factory=list)

    def index(self):
        return [Entry(f"{row:05d}", row % 2) for row in range(self.size)]

    def image(self, entry):
        self.asked.append(entry.key)
        if entry.key in self.broken:
            msg = self.reason
            raise Unusable(msg)
        image = Counting(self.shape, np.uint8)
        image[:] = int(entry.key) % 256
        self.alive.add(image)
        self.most = max(self.most, len(self.alive))
        return image


class Counting(np.ndarray):
    """Plain arrays are neither hashed nor put into weak sets."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def write(folder, source, data=SIZES):
    folder.mkdir(exist_ok=True)
    part = Part("train", source, source.index())
    return part, preparation.write(part, folder, data)


def read(folder, source, facts):
    layout = shards.Layout(source.shape, source.class_names, "train")
    return shards.read([folder / name for name in facts["shards"]], layout)


def test_at_most_two_images_are_alive_however_many_pass(tmp_path):
    gc.disable()  # what lives until a collection lives
    try:
        source = Counted(500)
        write(tmp_path, source)
    finally:
        gc.enable()
    assert len(source.asked) == 500
    assert source.most <= 2 <= SIZES.row_group_records
    assert len(source.alive) <= 1


def test_memory_does_not_grow_with_the_source(tmp_path):
    image = 64 * 64 * 3
    peaks = []
    write(tmp_path / "first", Counted(8, (64, 64, 3)))  # what is imported or cached once
    for number, size in enumerate((40, 400)):
        source = Counted(size, (64, 64, 3))
        entries = source.index()
        tracemalloc.start()
        write(tmp_path / str(number), source)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        del entries
    # A row group's bytes, two images, and some hundred bytes a further entry.
    assert peaks[1] < (SIZES.row_group_records + 2) * image + 400 * 500 + 50_000
    assert peaks[1] - peaks[0] < 360 * 500 < 360 * image / 20


def test_nothing_is_decoded_before_it_is_written(tmp_path):
    source = Counted(30)
    part = Part("train", source, source.index())
    stream = part.records()
    assert source.asked == []
    next(stream)
    assert source.asked == ["00000"]


def test_rejects_leave_no_gap_and_are_counted(tmp_path):
    broken = frozenset(f"{row:05d}" for row in (0, 3, 4, 5, 24))
    source = Counted(25, broken=broken)
    part, facts = write(tmp_path, source)
    rows = read(tmp_path, source, facts)
    assert list(rows.keys) == [key for key in source.asked if key not in broken]
    assert rows.images[:, 0, 0, 0].tolist() == [int(key) for key in rows.keys]
    assert part.rejects == [Reject("train", key, "broken") for key in sorted(broken)]
    per_class = np.bincount(rows.labels).tolist()
    names = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    expected = {"records": 20, "per_class": per_class, "rejected": 5, "shards": names}
    assert facts == expected
    for name in names:
        metadata = pq.ParquetFile(tmp_path / name).metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        assert sizes == [4, 4, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_clips_are_written_and_read(tmp_path):
    source = Counted(9, (3, 4, 5, 1))
    _, facts = write(tmp_path, source)
    rows = read(tmp_path, source, facts)
    assert rows.images.shape == (9, 3, 4, 5, 1)
    assert rows.images[:, 2, 3, 4, 0].tolist() == list(range(9))


def test_a_class_of_which_nothing_is_left_stops_with_the_reasons(tmp_path):
    source = Counted(10, broken=frozenset(f"{row:05d}" for row in range(1, 10, 2)))
    with pytest.raises(DataError) as caught:
        write(tmp_path, source)
    message = str(caught.value)
    assert message.startswith("no image for train in 1 class(es), such as 'b'; 5 were set aside: ")
    assert "00001 (broken), 00003 (broken)" in message
    assert message.endswith(
        "each split needs one of every class: repair or add images, or drop the class"
    )


def test_the_rejects_file_is_plain_csv(tmp_path):
    rejects = [
        Reject("train", "a/1, 2.png", 'says "no"'),
        Reject("eval", "a.png", "two\nlines"),
        Reject("eval", "ä/1.png", "é"),
    ]
    path = tmp_path / "rejects.csv"
    preparation.write_rejects(path, [])
    assert path.read_text() == "split,key,reason\n"
    preparation.write_rejects(path, rejects)
    with path.open(encoding="utf-8", newline="") as file:
        _, first, second, third = csv.reader(file)
    assert [first, second, third] == [list(reject) for reject in rejects]


def test_a_name_that_is_no_text_is_set_aside_and_escaped(tmp_path):
    source = Counted(4, broken=frozenset({"00002"}), reason="frame \udcfe.png")
    entries = [*source.index(), Entry("a/\udcff.png", 0)]
    part = Part("train", source, entries)
    preparation.write(part, tmp_path, SIZES)
    assert part.rejects == [
        Reject("train", "00002", r"frame \udcfe.png"),
        Reject("train", r"a/\udcff.png", "its name is not UTF-8: rename it"),
    ]
    preparation.write_rejects(tmp_path / "rejects.csv", part.rejects)
    assert r"a/\udcff.png" in (tmp_path / "rejects.csv").read_text(encoding="utf-8")


def folders(root, train, held_out):
    paths = {
        "path": str(pictures.folder(root / "train", train)),
        "eval_path": str(pictures.folder(root / "val", held_out)),
    }
    shape = {"source": "folder", "image_size": 4, "channels": 3}
    return tiny.params(data=shape | paths).data


def test_with_a_folder_of_its_own_eval_takes_nothing_from_train(tmp_path):
    data = folders(tmp_path, {"a": 5, "b": 2}, {"a": 1, "b": 3})
    train, held_out = preparation.parts(data, seed=0)
    assert [train.split, held_out.split] == ["train", "eval"]
    assert sorted(entry.key for entry in train.entries) == [
        *(f"a/{number:03d}.png" for number in range(5)),
        *(f"b/{number:03d}.png" for number in range(2)),
    ]
    assert len(held_out.entries) == 4
    assert train.source.root.path != held_out.source.root.path
    other = preparation.parts(data, seed=1)[0]
    assert train.entries != other.entries
    assert set(train.entries) == set(other.entries)


def test_without_one_the_split_is_stratified(tmp_path):
    path = pictures.folder(tmp_path, {"a": 10, "b": 20})
    shape = {"source": "folder", "image_size": 4, "channels": 3, "train_fraction": 0.8}
    train, held_out = preparation.parts(tiny.params(data=shape | {"path": str(path)}).data, 0)
    counts = [np.bincount([entry.label for entry in part.entries]) for part in (train, held_out)]
    assert [count.tolist() for count in counts] == [[8, 16], [2, 4]]
    assert not set(train.entries) & set(held_out.entries)


def test_classes_of_two_folders_must_agree(tmp_path):
    data = folders(tmp_path, {"a": 1, "b": 1, "c": 1}, {"a": 1, "d": 1})
    with pytest.raises(DataError) as caught:
        preparation.parts(data, seed=0)
    assert str(caught.value) == (
        "data.path has 3 classes and data.eval_path 2: 2 only in data.path (b, c); 1 only in "
        "data.eval_path (d); labels follow the folders' names: rename, add or remove class folders "
        "until both agree"
    )


@pytest.mark.parametrize(
    ("train", "held_out", "message"),
    [
        ({"a": 1, "b": 0}, {"a": 1, "b": 1}, "no image for train in 1 .* such as 'b'"),
        ({"a": 1, "b": 1}, {"a": 0, "b": 1}, "no image for eval in 1 .* such as 'a'"),
        ({"a": 1, "b": 1}, {"a": 0, "b": 0}, "data.eval_path .* holds no <class>/<image>"),
    ],
)
def test_a_class_without_images_in_a_split_is_named(tmp_path, train, held_out, message):
    with pytest.raises(DataError, match=message):
        preparation.parts(folders(tmp_path, train, held_out), seed=0)
