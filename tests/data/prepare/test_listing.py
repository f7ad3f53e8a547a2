import logging
from collections import Counter
from dataclasses import dataclass, replace

import pytest

from sid2core.data.errors import DataError
from sid2core.data.prepare import listing
from sid2core.data.prepare.counts import Reject
from sid2core.data.prepare.listing import Part
from sid2core.data.sources import opening, protocol
from sid2core.data.sources.fields import Fields
from sid2core.data.sources.protocol import Entry
from tests import tiny
from tests.data.made import Plain
from tests.refusals import NOT_UTF8, REPEATED

DATA = tiny.params(data={"train_fraction": 0.75}).data


@dataclass(frozen=True)
class Listed(Plain):
    """A source of given entries."""

    entries: tuple[Entry, ...] = ()

    def index(self):
        return list(self.entries)


def entries(*labels, start=0):
    return tuple(Entry(f"k{row}", label) for row, label in enumerate(labels, start))


def parts(monkeypatch, train, held_out=None, data=DATA, seed=0):
    monkeypatch.setattr(opening, "opened", lambda data: (train, held_out))
    return listing.parts(data, seed)


def keys(part):
    return {entry.key for entry in part.entries}


@pytest.mark.parametrize("fixed", [False, True])
def test_one_source_is_divided_whole(monkeypatch, fixed):
    source = Plain(200, fixed=fixed)
    train, held_out = parts(monkeypatch, source)
    assert [train.split, held_out.split] == ["train", "eval"]
    assert keys(train) | keys(held_out) == {entry.key for entry in source.index()}
    assert not keys(train) & keys(held_out)
    counts = Counter(entry.label for entry in train.entries)
    if fixed:
        assert counts == {0: 75, 1: 75}


def test_two_sources_keep_apart_and_the_seed_mixes(monkeypatch):
    source, other = Plain(9), Plain(4)
    train, held_out = parts(monkeypatch, source, other)
    assert (len(train.entries), len(held_out.entries)) == (9, 4)
    assert (train.source, held_out.source) == (source, other)
    again = parts(monkeypatch, source, other, seed=1)[0]
    assert keys(again) == keys(train)
    assert again.entries != train.entries


def test_problems_are_set_aside_with_their_reasons(monkeypatch):
    bad = (
        Entry("k1", 1),
        Entry("a/\udcff.png", 0),
        Entry("out", 2),
        Entry("none", -1, problem="no label"),
    )
    source = Listed(0, entries=(*entries(*[0, 1] * 10), *bad))
    train, held_out = parts(monkeypatch, source)
    assert len(train.entries) + len(held_out.entries) == 20
    assert train.problems == [
        Reject("train", "k1", REPEATED),
        Reject("train", r"a/\udcff.png", NOT_UTF8),
        Reject("train", "out", "label 2; there are classes 0 to 1"),
        Reject("train", "none", "no label"),
    ]
    assert held_out.problems == []
    of_eval = parts(monkeypatch, Plain(4), replace(source))[1]
    assert [reject.split for reject in of_eval.problems] == ["eval"] * 4


def test_an_empty_source_is_refused(monkeypatch):
    with pytest.raises(DataError, match="lists no image"):
        parts(monkeypatch, Listed(0))


@pytest.mark.parametrize(
    ("train", "held_out", "message"),
    [
        ((0, 0), (0, 1), "no image for train in 1 .* such as 'b'"),
        ((0, 1), (), "lists no image"),
    ],
)
def test_a_class_to_train_on_without_images_is_named(monkeypatch, train, held_out, message):
    with pytest.raises(DataError, match=message):
        parts(
            monkeypatch,
            Listed(0, entries=entries(*train)),
            Listed(0, entries=entries(*held_out)),
        )


def test_eval_may_lack_a_class_but_not_all():
    source = Plain(4)
    listing.check_classes(Part("eval", source, source.class_names, [], []), Counter({1: 3}))
    with pytest.raises(DataError, match=r"no image for eval in 2 .*lower data\.train_fraction"):
        listing.check_classes(Part("eval", source, source.class_names, [], []), Counter())


@pytest.mark.parametrize(("split", "cure"), [("train", "raise"), ("eval", "lower")])
def test_images_without_labels_are_not_spoken_of_as_a_class(split, cure):
    part = Part(split, Plain(4), ("unlabelled",), [], [Reject(split, "a.png", "broken")])
    message = (
        rf"^no image for {split}; 1 were set .*; there must be .* {cure} data\.train_fraction$"
    )
    with pytest.raises(DataError, match=message) as raised:
        listing.check_classes(part, Counter())
    assert "class" not in str(raised.value)


@dataclass(frozen=True)
class Spare(Listed):
    """A source with more class names than it may use, as a filtered set of Hugging Face."""

    class_names: tuple[str, ...] = ("a", "b", "c", "d")
    fields: Fields = Fields("label", (), spare_classes=True)


def test_spare_class_names_are_dropped_from_both_splits(monkeypatch, caplog):
    train = Spare(0, entries=entries(1, 3, 3))
    held_out = Spare(0, entries=entries(3))
    with caplog.at_level(logging.INFO):
        made = parts(monkeypatch, train, held_out)
    assert [part.class_names for part in made] == [("b", "d")] * 2
    assert [part.layout.class_names for part in made] == [("b", "d")] * 2
    assert sorted(entry.label for entry in made[0].entries) == [0, 1, 1]
    assert [entry.label for entry in made[1].entries] == [1]
    assert caplog.messages == ["2 class name(s) without an image are dropped: a, c"]
    one = parts(monkeypatch, Spare(0, entries=entries(*[1, 3] * 20)))
    assert [part.class_names for part in one] == [("b", "d")] * 2
    with pytest.raises(DataError, match="no image for train in 1 .* such as 'a'"):
        parts(monkeypatch, train, Spare(0, entries=entries(0, 1)))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "c"), r"1 only in path \(b\); 1 only in eval_path \(c\)"),
        (("b", "a"), "the same in another order"),
        (("a", "b", "c"), r"data\.source\.digits\.path has 2 classes and eval_path 3: 1 only in"),
        (
            ("unlabelled",),
            r"path has 2 classes and eval_path none: 2 only in path \(a, b\); labels",
        ),
    ],
)
def test_classes_of_two_sources_must_agree(monkeypatch, names, message):
    with pytest.raises(DataError, match=message):
        parts(monkeypatch, Plain(4), Plain(6, class_names=names))


def test_reasons_are_told_by_how_common_they_are():
    rejects = [Reject("train", f"k{row}", "a" if row % 3 else "b") for row in range(10)]
    assert listing.summary(rejects) == "6 × a (such as k1); 4 × b (such as k0)"
    many = [Reject("train", f"k{row}", f"reason {row}") for row in range(7)]
    assert listing.summary(many).endswith("1 × reason 4 (such as k4); …")


def test_loaded_raises_what_was_known_before():
    with pytest.raises(protocol.Unusable, match="no label"):
        protocol.loaded(Plain(1), Entry("x", -1, problem="no label"))
