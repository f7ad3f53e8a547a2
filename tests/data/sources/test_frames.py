"""Clips as folders of frames."""

import pickle

import numpy as np
import pytest

from sid2core.data.errors import DataError, Unusable
from sid2core.data.sources.protocol import Entry
from tests.data import packs, pictures
from tests.data.layouts import KINDS, found, frames, put


@pytest.mark.parametrize("kind", KINDS)
def test_frames_come_in_natural_order_at_their_stride(tmp_path, kind):
    members = {
        f"{clip}/{row}.png": packs.saved(np.full((4, 4, 3), row, np.uint8))
        for clip, length in {"run/a": 12, "run/b": 4, "jump/c": 10}.items()
        for row in range(length)
    }
    others = {"run/a/.hidden.png": b"", "run/a/clip.mp4": b"", "run/1.png": b"", "x.png": b""}
    source = frames(put(tmp_path / "data", members | others, kind), count=4, stride=3)
    assert source.class_names == ("jump", "run")
    loose = "it lies in no clip's folder"
    assert found(source) == {
        "jump/c": "jump",
        "run/1.png": loose,
        "run/a": "run",
        "run/b": "run",
        "x.png": loose,
    }
    assert source.shape == (4, 4, 4, 1)
    sent, entries = pickle.loads(pickle.dumps((source, source.index())))
    by_key = {entry.key: entry for entry in entries}
    for key in ("run/a", "jump/c"):  # 10 frames are just enough
        clip = sent.read(by_key[key]).image
        assert clip.shape == source.shape
        assert clip[:, 0, 0, 0].tolist() == [0, 3, 6, 9]
    with pytest.raises(Unusable, match=r"4 frame\(s\); 4 at stride 3 need 10"):
        sent.read(by_key["run/b"])
    assert source.stamp() == sent.stamp()


def test_a_clip_of_broken_frames_is_unusable(tmp_path):
    pictures.clips(tmp_path, {"run/b": 10})
    source = frames(tmp_path, count=4, stride=3)
    (tmp_path / "run/b/6.png").write_bytes(b"")
    with pytest.raises(Unusable, match=r"frame 6\.png: "):
        source.read(Entry("run/b", 0))
    pictures.clips(tmp_path, {"run/b": 10})
    (tmp_path / "run/b/5.png").write_bytes(b"")  # not one of those that are read
    assert source.read(Entry("run/b", 0)).image[:, 0, 0, 0].tolist() == [0, 3, 6, 9]


def test_a_frame_that_an_archive_cannot_give_is_named(tmp_path):
    members = {"run/b/1.png": packs.png(), "run/b/2.png": ("sym", "none")}
    source = frames(packs.write(tmp_path / "a.tar", packs.tar(members)))
    with pytest.raises(Unusable, match=r"frame 2\.png: a link to no file of the archive"):
        source.read(source.index()[0])


def test_single_images_where_clips_belong_name_the_other_source(tmp_path):
    pictures.folder(tmp_path, {"a": 3})
    with pytest.raises(
        DataError, match="found 3 × it lies in no clip.* set data.source.name to folder"
    ):
        frames(tmp_path).index()
