import csv
import errno
import gc
import tracemalloc
import weakref
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from sid2core.data.errors import DataError
from sid2core.data.load import shards
from sid2core.data.load.reading import Shards
from sid2core.data.prepare import preparation, workers
from sid2core.data.prepare.counts import Reject
from sid2core.data.prepare.listing import Part
from sid2core.data.prepare.workers import Workers
from tests import tiny
from tests.damage import DAMAGES
from tests.data import made
from tests.data.made import Plain

SIZES = tiny.params(
    data={"shard_records": 10, "row_group_records": 4, "max_reject_fraction": 0.5}
    | {"max_missing_captions": 0.5}
).data


@dataclass(frozen=True)
class Counted(Plain):
    """A source that knows how many of its images are alive."""

    alive: weakref.WeakSet = field(default_factory=weakref.WeakSet)
    most: list[int] = field(default_factory=lambda: [0])

    def read(self, entry):
        content = super().read(entry)
        image = content.image.view(Counting)
        self.alive.add(image)
        self.most.append(len(self.alive))
        return replace(content, image=image)


class Counting(np.ndarray):
    """Plain arrays are neither hashed nor put into weak sets."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def write(folder, source, data=SIZES, problems=(), split="train", count=1):
    folder.mkdir(exist_ok=True)
    part = Part(split, source, source.class_names, source.index(), problems)
    preparation.write([part], folder, data, Workers(count))
    return part


def tables(folder, part):
    return [pq.read_table(folder / name) for name in part.shards]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_at_most_two_images_are_alive_however_many_pass(tmp_path):
    gc.disable()  # what lives until a collection lives
    try:
        source = Counted(500)
        write(tmp_path, source)
    finally:
        gc.enable()
    assert len(source.most) == 501
    assert max(source.most) <= 2 <= SIZES.row_group_records


def test_memory_does_not_grow_with_the_source(tmp_path):
    image = 64 * 64 * 3
    peaks = []
    write(tmp_path / "first", Plain(8, (64, 64, 3)))  # what is imported or cached once
    for number, size in enumerate((40, 400)):
        source = Plain(size, (64, 64, 3))
        entries = source.index()
        tracemalloc.start()
        write(tmp_path / str(number), source)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        del entries
    # A row group's bytes, two images, some hundred bytes a further entry, a checksum's buffer.
    assert peaks[1] < (SIZES.row_group_records + 2) * image + 400 * 500 + 50_000 + 2**18
    assert peaks[1] - peaks[0] < 360 * 500 < 360 * image / 20


def test_rejects_leave_no_gap_and_are_counted(tmp_path):
    broken = frozenset({0, 3, 4, 5, 24})
    problem = Reject("train", "x.svg", "no image by its name")
    part = write(tmp_path, Plain(25, broken=broken), problems=[problem])
    rows = [row for row in range(25) if row not in broken]
    found = tables(tmp_path, part)
    assert [key for table in found for key in table["key"].to_pylist()] == [
        f"{row:05d}" for row in rows
    ]
    assert [image[0] for table in found for image in table["image"].to_pylist()] == rows
    assert [label for table in found for label in table["label"].to_pylist()] == [
        row % 2 for row in rows
    ]
    rejects = [Reject("train", f"{row:05d}", "broken") for row in sorted(broken)]
    assert part.rejects == [problem, *rejects]
    assert part.tally.records + len(part.rejects) == 26
    # A shard is ten entries, whatever becomes of them.
    assert [table.num_rows for table in found] == [6, 10, 4]
    metadata = pq.ParquetFile(tmp_path / part.shards[1]).metadata
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    assert sizes == [4, 4, 2]


def test_a_shard_of_nothing_but_rejects_is_no_shard(tmp_path):
    part = write(tmp_path / "work", Plain(30, broken=frozenset(range(10, 20))))
    assert part.shards == ["train-00000.parquet", "train-00002.parquet"]
    (tmp_path / "made").mkdir()
    preparation.place(part, tmp_path / "work", tmp_path / "made")
    assert part.shards == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert sorted(contents(tmp_path / "made")) == part.shards


def test_captions_are_written_where_there_are_any(tmp_path):
    part = write(tmp_path, Plain(8, captioned=True))
    (table,) = tables(tmp_path, part)
    captions = table["captions"].to_pylist()
    assert captions == [[f"level {row}"] * (row % 3) for row in range(8)]
    plain = write(tmp_path / "plain", Plain(8))
    assert "captions" not in tables(tmp_path / "plain", plain)[0].column_names


def test_clips_are_written(tmp_path):
    part = write(tmp_path, Plain(9, (3, 4, 5, 1)))
    layout = shards.Layout((3, 4, 5, 1), ("a", "b"), "train")
    found = Shards([tmp_path / name for name in part.shards], layout)
    images = np.concatenate([found.images(group) for group in range(len(found.sizes))])
    assert images.shape == (9, 3, 4, 5, 1)
    assert images[:, 2, 3, 4, 0].tolist() == list(range(9))


def test_workers_change_no_byte(tmp_path):
    source = Plain(60, captioned=True, broken=frozenset({7, 33}))
    for count in (1, 2):
        write(tmp_path / str(count), source, count=count)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_what_is_there_already_is_kept_and_counted(tmp_path, monkeypatch):
    source = Plain(60, broken=frozenset({7, 33}))
    whole = write(tmp_path / "whole", source)
    spread, given = workers.spread, []

    def stops(work, jobs, data):
        for number, result in enumerate(spread(work, jobs, data)):
            yield result
            if number == 3:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(workers, "spread", stops)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "cut", source)
    # A shard without its tally was cut off while it was written: it is made again.
    (tmp_path / "cut" / "train-00001.json").unlink()
    (tmp_path / "cut" / "train-00001.parquet").write_bytes(b"half")

    def watched(work, jobs, data):
        given.extend(job.path.name for job in jobs)
        return spread(work, jobs, data)

    monkeypatch.setattr(workers, "spread", watched)
    again = write(tmp_path / "cut", source)
    assert given == ["train-00001.parquet", "train-00004.parquet", "train-00005.parquet"]
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert again.tally.to_json() == whole.tally.to_json()


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_shards_and_tallies_are_reported_and_made_again(tmp_path, caplog, damage):
    source, folder = Plain(20, broken=frozenset({7})), tmp_path / "work"
    whole = write(folder, source)
    expected = contents(folder)
    assert len(expected) == 8, "two shards, their tallies, a checksum of each"
    for name in expected:
        caplog.clear()
        damage(folder / name)
        again = write(folder, source)
        assert f"{folder / name.removesuffix('.sha256')} is damaged" in caplog.text
        assert contents(folder) == expected
        assert again.tally.to_json() == whole.tally.to_json()


def test_too_many_rejects_stop_the_work_at_once(tmp_path, monkeypatch):
    source = Plain(100, broken=frozenset(range(0, 40, 2)))
    data = SIZES.model_copy(update={"max_reject_fraction": 0.1})
    with pytest.raises(DataError) as caught:
        write(tmp_path, source, data, [Reject("train", "x", "odd")])
    message = str(caught.value)
    assert message.startswith("11 of 101 images had to be set aside, more than the share that ")
    assert "data.max_reject_fraction 0.1 allows: 10 × broken (such as 00000); 1 × odd" in message
    assert str(tmp_path / "rejects.csv") in message
    with (tmp_path / "rejects.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.reader(file))) == 12
    assert not (tmp_path / "train-00005.parquet").exists()


def test_a_shard_of_which_nothing_can_be_used_stops_the_work(tmp_path):
    """As where more frames are asked for than any video has."""
    source = Plain(400, broken=frozenset(range(70)))
    data = SIZES.model_copy(update={"shard_records": 70})
    with pytest.raises(DataError) as caught:
        write(tmp_path, source, data)
    assert str(caught.value).startswith(
        "none of 70 images of a shard can be used: 70 × broken (such as 00000"
    )
    assert not (tmp_path / "train-00001.parquet").exists()
    many = data.model_copy(update={"shard_records": 63})
    assert write(tmp_path / "small", source, many).tally.records == 330


@pytest.mark.parametrize("count", [2, 3])
def test_the_limit_itself_is_allowed(tmp_path, count):
    data = SIZES.model_copy(update={"max_reject_fraction": 0.1})
    source = Plain(20, broken=frozenset(range(count)))
    if count <= 2:
        assert write(tmp_path, source, data).tally.records == 18
    else:
        with pytest.raises(DataError, match="3 of 20"):
            write(tmp_path, source, data)


def test_a_class_of_which_nothing_is_left_stops_with_the_reasons(tmp_path):
    source = Plain(10, broken=frozenset(range(1, 10, 2)))
    with pytest.raises(DataError) as caught:
        write(tmp_path, source)
    assert str(caught.value) == (
        "no image for train in 1 class(es), such as 'b'; 5 were set aside: 5 × broken (such as "
        "00001); every class needs images to train on: repair or add images, or drop the class"
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_told_and_another_error_is_not_hidden(tmp_path, monkeypatch, number):
    real = shards.write

    def write_until_full(path, *args):
        real(path, *args)
        if path.name == "train-00002.parquet":
            raise OSError(number, "the disk")

    with monkeypatch.context() as patch:
        patch.setattr(shards, "write", write_until_full)
        expected = OSError if number == errno.EIO else DataError
        with pytest.raises(expected, match="no space left for .*kept|the disk"):
            write(tmp_path / "cut", Plain(60))
    assert (tmp_path / "cut" / "train-00001.json").exists()
    assert not (tmp_path / "cut" / "train-00002.json").exists()
    write(tmp_path / "cut", Plain(60))
    write(tmp_path / "whole", Plain(60))
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


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


def test_an_image_of_another_shape_than_promised_is_the_sources_fault(tmp_path):
    @dataclass(frozen=True)
    class Wrong(Plain):
        def read(self, entry):
            return replace(super().read(entry), image=np.zeros((2, 2, 1), np.uint8))

    with pytest.raises(DataError, match=r"00000 is uint8 of shape \(2, 2, 1\); expected"):
        write(tmp_path, Wrong(4))


def test_records_helper_and_prepare_write_the_same_rows(tmp_path):
    part = write(tmp_path / "a", Plain(8))
    layout = shards.Layout((4, 4, 1), ("a", "b"), "train")
    rows = [made.record(f"{r:05d}", np.full((4, 4, 1), r, np.uint8), r % 2) for r in range(8)]
    (name,) = made.write(tmp_path / "b", layout, rows, shard_records=10, row_group_records=4)
    assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / part.shards[0]).read_bytes()
