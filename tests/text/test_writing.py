"""Stored tokens: aligned with the rows, each caption once, in chunks that survive a kill."""

import json
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from sid2core import checksums, conditioning
from sid2core.conditioning import ConditionSpec, TextKind, null_tokens, words
from sid2core.data.errors import DataError
from sid2core.data.load.texts import Texts
from sid2core.evaluation import sample_conditions
from sid2core.pipeline import artifact
from sid2core.text import prompts, writing
from sid2core.text.frozen import Embed
from sid2core.text.writing import Captions
from tests.data.stored import dataset as stored_data
from tests.text.encoders import CHANNELS, Words

TRAIN = [["a red one", "red"], [], ["a blue one"], ["a red one", "one two three four five six"]]
EVAL = [["a green one"], ["red", ""]]
ENCODER = Words()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(writing, "CHUNK", 3)


@pytest.fixture(params=[False, True], ids=["ids", "vectors"])
def stored(request, tmp_path):
    """The artifact, and its captions."""
    return written(tmp_path, Embed(ENCODER) if request.param else None)


def written(folder, embed):
    captions, work = Captions.collected({"train": TRAIN, "eval": EVAL}), folder / "work"
    (work / prompts.ENCODER).mkdir(parents=True)
    for number in range(captions.chunks):
        writing.write_chunk(work, number, captions.chunk(number), ENCODER, embed)
    with artifact.create("text", {}, root=folder) as draft:
        writing.place(captions, work, draft.folder)
        draft.metadata["text"] = json.loads(json.dumps(writing.metadata(captions, ENCODER, embed)))
    return artifact.load("text", root=folder)


def every(texts, rows, draws=40):
    """The captions that rows have under many words."""
    found = [texts.strings(texts.numbers(rows, words(seed, "t", rows))) for seed in range(draws)]
    return [set(one) for one in zip(*found, strict=True)]


def test_each_caption_is_stored_once_and_rows_name_theirs(stored):
    about = stored.metadata["text"]
    assert about["distinct"] == 6
    assert about["captions"] == {"train": 5, "eval": 3}
    train, held_out = (Texts.open(stored, *one, None) for one in (("train", 4), ("eval", 2)))
    assert every(train, np.arange(4)) == [set(one) or {""} for one in TRAIN]
    assert every(held_out, np.arange(2)) == [{"a green one"}, {"red", ""}]
    assert train.numbers(np.array([1]), words(0, "t", np.array([1]))).tolist() == [0]


def test_tokens_are_those_of_the_encoder_to_the_bit(stored):
    texts, numbers = Texts.open(stored, "train", 4, None), np.array([5, 0, 1, 4, 1])
    found, expected = texts.tokens(numbers), ENCODER.tokenize(texts.strings(numbers))
    assert (found.mask == expected.mask).all()
    if stored.metadata["text"]["stored"] == "int32":
        assert (found.tokens == expected.ids).all()
        return
    assert found.tokens.dtype == ml_dtypes.bfloat16
    vectors = np.asarray(Embed(ENCODER)(expected.ids, expected.mask))
    assert (found.tokens == vectors).all()
    assert not found.tokens[~found.mask].any()


def test_the_empty_caption_is_the_null(stored):
    texts = Texts.open(stored, "train", 4, None)
    kind = texts.kind
    assert isinstance(kind, TextKind)
    assert (kind.encoder, kind.tokens, kind.dtype) == ("words", 6, "bfloat16")
    empty = Texts.open(stored, "train", 4, Embed(ENCODER).host).tokens(np.array([0]))
    assert (empty.tokens[0][empty.mask[0]] == null_tokens(kind)).all()
    assert null_tokens(kind).shape == (1, CHANNELS)


def test_without_stored_vectors_they_are_made_on_demand(tmp_path):
    (tmp_path / "ids").mkdir()
    (tmp_path / "vectors").mkdir()
    embed = Embed(ENCODER)
    late = Texts.open(written(tmp_path / "ids", None), "train", 4, embed.host)
    stored = Texts.open(written(tmp_path / "vectors", embed), "train", 4, None)
    assert late.kind == stored.kind
    numbers = np.arange(6)
    assert (late.tokens(numbers).tokens == stored.tokens(numbers).tokens).all()


def test_a_vector_does_not_depend_on_the_other_texts():
    encoder = Words(max_tokens=20)
    texts = ["one two", "a b c d e f g h i j k l m", ""] * 15
    found, embed = encoder.tokenize(texts), Embed(encoder)
    together = embed.rows(found.ids, found.mask)
    assert [len(one) for one in together] == found.lengths.tolist()
    for row in (0, 1, 2, 44):
        alone = embed.rows(found.ids[row : row + 1], found.mask[row : row + 1])
        assert (alone[0] == together[row]).all()


def test_whole_chunks_are_kept_and_damaged_ones_are_made_again(tmp_path):
    captions = Captions.collected({"train": TRAIN})
    paths = [tmp_path / name for name in writing.names(1)]
    writing.write_chunk(tmp_path, 1, captions.chunk(1), ENCODER, None)
    before = [path.read_bytes() for path in paths]
    times = [path.stat().st_mtime_ns for path in paths]
    writing.write_chunk(tmp_path, 1, captions.chunk(1), ENCODER, None)
    assert [path.stat().st_mtime_ns for path in paths] == times
    paths[0].write_bytes(before[0][:-4])
    writing.write_chunk(tmp_path, 1, captions.chunk(1), ENCODER, None)
    assert [path.read_bytes() for path in paths] == before
    assert all(map(checksums.whole, paths))


def test_tokens_of_other_rows_are_refused(stored):
    with pytest.raises(DataError, match="has captions of 4 train rows; there are 5"):
        Texts.open(stored, "train", 5, None)


def test_data_without_captions_have_no_texts(tmp_path):
    with artifact.create("text", {}, root=tmp_path) as draft:
        draft.metadata["text"] = None
    assert Texts.open(artifact.load("text", root=tmp_path), "train", 5, None) is None


def test_conditions_of_samples_are_read_when_they_are_drawn(tmp_path):
    """They equal those that are read at once."""
    made = written(tmp_path, Embed(ENCODER))
    images = np.zeros((4, 2, 2, 1), np.uint8)
    data = replace(stored_data(images, [0] * 4, "a"), texts=Texts.open(made, "train", 4, None))
    kinds = ConditionSpec((data.texts.kind,))
    late = sample_conditions.conditions(kinds, data, 9, seed=2)
    expected = kinds.asked(9, data, 2)
    for part in (slice(3, 7), np.array([8, 0, 0])):
        found, there = (conditioning.taken(one, part).text for one in (late, expected))
        assert (found.tokens == there.tokens).all()
        assert (found.mask == there.mask).all()
