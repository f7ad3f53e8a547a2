import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest

from sid2core.data import records, sources
from sid2core.data.errors import DataError, Unusable
from sid2core.data.records import Entry
from tests import tiny
from tests.data import pictures

DIGITS = tiny.params().data


@dataclass(frozen=True)
class Given:
    entries: tuple[Entry, ...] = (Entry("k", 0),)
    made: np.ndarray = field(default_factory=lambda: np.zeros((2, 3, 1), np.uint8))
    class_names: tuple[str, ...] = ("a", "b")
    shape: tuple[int, ...] = (2, 3, 1)
    decoding: Mapping[str, str] = field(default_factory=dict)

    def index(self):
        return list(self.entries)

    def image(self, entry):
        return self.made


def opened(folder, source):
    """Each kind of source, with what it reads."""
    data = {"source": source}
    if source == "folder":
        path = pictures.folder(folder, {"cat": 2, "dog": 3})
        data |= {"path": str(path), "image_size": 4, "channels": 3}
    if source == "frames":
        path = pictures.clips(folder, {"run/a": 5, "run/b": 4, "jump/a": 6})
        clip = {"image_size": 4, "channels": 1, "frames": 2, "frame_stride": 3}
        data |= {"path": str(path)} | clip
    return sources.opened(tiny.params(data=data).data)


def test_digits_are_what_scikit_learn_carries():
    from sklearn.datasets import load_digits

    source, held_out = sources.opened(DIGITS)
    assert held_out is None
    entries = records.listed(source)
    expected = load_digits()
    assert len(entries) == 1797
    assert [entry.label for entry in entries] == expected.target.tolist()
    assert entries[0].key == "digits/00000"
    assert entries[-1].key == "digits/01796"
    half = Fraction(1, 2)
    bytes_of = [int(Fraction(255 * level, 16) + half) for level in range(17)]
    assert (bytes_of[0], bytes_of[8], bytes_of[16]) == (0, 128, 255)
    table = np.array(bytes_of)[expected.images.astype(int)]
    images = [records.loaded(source, entry).image[..., 0] for entry in entries]
    np.testing.assert_array_equal(np.stack(images), table)


@pytest.mark.parametrize("name", sources.SOURCES)
def test_every_source_gives_the_same_at_each_call_and_keeps_its_promises(tmp_path, name):
    source, _ = opened(tmp_path, name)
    again, _ = opened(tmp_path, name)
    entries = records.listed(source)
    assert entries == source.index() == again.index()
    assert {entry.label for entry in entries} == set(range(len(source.class_names)))
    for entry in itertools.islice(entries, 5):
        one, other, third = source.image(entry), source.image(entry), again.image(entry)
        assert one is not other
        assert (one.shape, one.dtype) == (source.shape, np.uint8)
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, third)
        record = records.loaded(source, entry)
        assert (record.key, record.label) == (entry.key, entry.label)


def test_the_eval_split_may_have_a_folder_of_its_own(tmp_path):
    train = pictures.folder(tmp_path / "train", {"cat": 2})
    held_out = pictures.folder(tmp_path / "val", {"cat": 1})
    paths = {"path": str(train), "eval_path": str(held_out)}
    data = {"source": "folder", "image_size": 4, "channels": 3} | paths
    first, second = sources.opened(tiny.params(data=data).data)
    assert [entry.key for entry in first.index()] == ["cat/000.png", "cat/001.png"]
    assert [entry.key for entry in second.index()] == ["cat/000.png"]
    assert second.root.parameter == "data.eval_path"


def test_listing_keeps_order():
    entries = (Entry("z", 0), Entry("a", 1))
    assert records.listed(Given(entries)) == list(entries)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ((), "lists no image; choose another data.source"),
        ((Entry("x", 0), Entry("x", 1)), "key x comes twice"),
        ((Entry("x", 2),), "x has label 2; expected 0 to 1"),
        ((Entry("x", -1),), "x has label -1"),
    ],
)
def test_bad_entries_are_refused(entries, message):
    with pytest.raises(DataError, match=message):
        records.listed(Given(entries))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((2, 3, 1), np.float32), "k is float32"),
        (np.zeros((2, 3), np.uint8), r"of shape \(2, 3\); expected uint8 of shape \(2, 3, 1\)"),
        (np.zeros((3, 2, 1), np.uint8), "channels last"),
    ],
)
def test_an_image_that_breaks_the_sources_promise_is_a_defect_and_no_reject(image, message):
    with pytest.raises(DataError, match=message):
        records.loaded(Given(made=image), Entry("k", 0))


def test_a_key_that_is_no_text_is_unusable():
    with pytest.raises(Unusable, match="not UTF-8: rename it"):
        records.loaded(Given(), Entry("a/\udcff.png", 0))
