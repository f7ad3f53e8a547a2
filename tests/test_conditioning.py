"""Conditions, their specification and kinds that come from outside the package."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sid2core import conditioning
from sid2core.conditioning import (
    KINDS,
    Condition,
    ConditionError,
    ConditionKind,
    ConditionSpec,
    Given,
    GivenKind,
    LabelKind,
    Text,
    captioned,
    null_tokens,
    words,
)
from sid2core.data.load.loader import Loader
from sid2core.models.architecture import ModelError
from sid2core.models.network import Network
from tests import tiny
from tests.data import stored
from tests.models import configs

CLASSES = ConditionSpec.of_classes(3, ("cat", "dog", "house"))
NOTHING = ConditionSpec()
TEXT = configs.text_kind()


@dataclass(frozen=True)
class VectorKind(ConditionKind):
    """A vector that depends on the record's key."""

    name: ClassVar[str] = "vector"
    size: int

    @classmethod
    def of_data(cls, metadata):
        return cls(metadata["vector"]) if "vector" in metadata else None

    def read(self, records, rows, examples, words):
        keys = records.column("key")
        values = [[float(keys[row])] * self.size for row in rows]
        return examples, np.array(values, np.float32)

    def null(self, count):
        return jnp.full((count, self.size), -1.0, jnp.float32)

    def embedding(self, channels, rngs):
        return nnx.Linear(self.size, channels, rngs=rngs)


@pytest.fixture
def vector(monkeypatch):
    """The kind is registered in this test alone."""
    monkeypatch.delitem(KINDS, "vector", raising=False)
    return conditioning.register(VectorKind)


@pytest.fixture
def both(vector):
    return ConditionSpec.of_data({"class_names": ["a", "b", "c"], "vector": 2})


def test_a_specification_survives_json(both):
    for spec in (CLASSES, NOTHING, both, both.with_text(TEXT)):
        again = ConditionSpec.from_json(json.loads(json.dumps(spec.to_json())))
        assert again == spec
        assert hash(again) == hash(spec)
    assert ConditionSpec.from_json(CLASSES.to_json()).label.names == ("cat", "dog", "house")


def test_an_unknown_kind_is_refused_with_the_cure():
    with pytest.raises(ConditionError, match=r"condition kind 'sound' is unknown; .*plugins"):
        ConditionSpec.from_json({"sound": {}})
    with pytest.raises(ConditionError, match="its settings do not fit"):
        ConditionSpec.from_json({"label": {"number": 3}})


def test_data_without_classes_are_unconditional():
    assert not ConditionSpec.of_data({"class_names": ["unlabelled"]})
    assert ConditionSpec.of_data({"class_names": ["one"]}) == ConditionSpec.of_classes(1)


def test_manifests_from_before_have_classes():
    spec = ConditionSpec.of_manifest({"class_names": ["a", "b"]})
    assert spec.to_json() == {"label": {"classes": 2, "names": ["a", "b"]}}
    assert not ConditionSpec.of_manifest({"class_names": ["a", "b"], "condition": {}})


def test_the_null_of_each_kind_says_nothing():
    spec = ConditionSpec((LabelKind(3), GivenKind((2, 8, 8, 1)))).with_text(TEXT)
    assert spec.names == ("label", "text", "given")
    null = spec.null(6)
    assert null.label.tolist() == [3] * 6
    assert null.text.tokens.shape == (6, 5, 7)
    assert null.text.tokens.dtype == np.float16
    assert (np.asarray(null.text.tokens)[:, 0] == null_tokens(TEXT)[0]).all()
    assert null.text.mask.tolist() == [[True, False, False, False, False]] * 6
    assert null.given.frames.shape == (6, 2, 8, 8, 1)
    assert not null.given.there.any()
    assert NOTHING.null(6) == Condition()


def test_all_kinds_of_an_example_are_dropped_together(both):
    labels = np.arange(4000, dtype=np.int32) % 3
    own = Condition(label=labels, extra={"vector": np.ones((4000, 2), np.float32)})
    kept = both.dropped(own, jax.random.key(0), 0.0, 4000)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), kept, own))
    some = both.dropped(own, jax.random.key(0), 0.3, 4000)
    null = np.asarray(some.label) == 3
    assert null.mean() == pytest.approx(0.3, abs=0.04)
    assert (np.asarray(some.label)[~null] == labels[~null]).all()
    assert (np.asarray(some.extra["vector"]) == np.where(null, -1.0, 1.0)[:, None]).all()


@pytest.mark.parametrize("given_rate", [None, 0.1, 0.3, 0.7])
def test_given_frames_are_dropped_at_a_rate_of_their_own(given_rate):
    """Nested: what is dropped at the smaller rate is dropped at the larger one too."""
    rate, count, key = 0.3, 4000, jax.random.key(0)
    spec = ConditionSpec.of_classes(3).with_given(2, (5, 2, 2, 1))
    frames = np.ones((count, 2, 2, 2, 1), np.uint8)
    own = Condition(label=np.zeros(count, np.int32), given=Given(frames, np.ones(count, bool)))
    found = spec.dropped(own, key, rate, count, given_rate)
    label, absent = np.asarray(found.label) == 3, ~np.asarray(found.given.there)
    assert (label == np.asarray(jax.random.bernoulli(key, rate, (count,)))).all()
    expected = rate if given_rate is None else given_rate
    assert absent.mean() == pytest.approx(expected, abs=0.04)
    assert (label & absent).mean() == min(label.mean(), absent.mean())
    assert (np.asarray(found.given.frames)[:, 0, 0, 0, 0] == ~absent).all()


@pytest.mark.parametrize("kind", [TEXT, configs.learned_kind()], ids=["vectors", "ids"])
def test_whole_captions_are_dropped(kind):
    spec = ConditionSpec((kind,))
    null = spec.null(1).text
    own = Text(
        np.broadcast_to(null.tokens + 2, (400, *null.tokens.shape[1:])), np.ones((400, 5), bool)
    )
    some = spec.dropped(Condition(text=own), jax.random.key(0), 0.25, 400).text
    gone = np.asarray(some.mask).sum(1) == 1
    assert gone.mean() == pytest.approx(0.25, abs=0.06)
    assert some.tokens.dtype == null.tokens.dtype
    for rows, expected in ((gone, null), (~gone, Text(own.tokens[:1], own.mask[:1]))):
        assert (np.asarray(some.tokens)[rows] == np.asarray(expected.tokens)).all()
        assert (np.asarray(some.mask)[rows] == np.asarray(expected.mask)).all()


def test_words_are_functions_of_seed_name_and_index():
    found = words(3, "captions", np.arange(4000))
    assert (words(3, "captions", np.array([7, 2])) == found[[7, 2]]).all()
    assert (words(4, "captions", np.arange(9)) != found[:9]).all()
    assert np.bincount(found % np.uint64(5)) / 4000 == pytest.approx([0.2] * 5, abs=0.03)


def test_each_record_gives_its_caption_once_before_any_does_again():
    rows, chosen = captioned(25, 10, seed=1)
    assert sorted(rows[:10]) == sorted(rows[10:20]) == list(range(10))
    assert (rows[20:] == rows[:5]).all()
    assert (captioned(7, 10, seed=1)[0] == rows[:7]).all()
    assert len(set(chosen.tolist())) == 25


def test_conditions_are_joined_and_cut(both):
    first = Condition(label=np.array([0, 1]), extra={"vector": np.zeros((2, 2), np.float32)})
    joined = conditioning.concatenated(first, both.null(1))
    assert joined.label.tolist() == [0, 1, 3]
    assert joined.extra["vector"].shape == (3, 2)
    assert conditioning.taken(joined, slice(2, 3)).label.tolist() == [3]
    assert conditioning.concatenated(Condition(), Condition()) == Condition()


def test_samples_stand_for_the_data(both):
    assert CLASSES.asked(5).label.tolist() == [0, 1, 2, 0, 1]
    assert CLASSES.asked(5).label.dtype == np.int32
    assert CLASSES.grid(2).label.tolist() == [0, 0, 1, 1, 2, 2]
    assert NOTHING.asked(5) == NOTHING.grid(2) == Condition()
    assert NOTHING.rows == 1
    images, _ = stored.records(6)
    records = stored.dataset(images, [2, 1, 0, 2, 1, 0], "abc")
    asked = both.asked(8, records)
    assert asked.label.tolist() == [2, 1, 0, 2, 1, 0, 2, 1]
    assert asked.extra["vector"][:, 0].tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
    with pytest.raises(ConditionError, match="give a condition of each kind"):
        both.asked(8)


def test_classes_may_be_drawn_as_often_as_they_are():
    images, _ = stored.records(100, (1, 1, 1))
    records = stored.dataset(images, [0] * 70 + [2] * 30, "abc")
    found = CLASSES.asked(4000, records, seed=3).label
    assert np.bincount(found, minlength=3)[1] == 0
    assert (found == 0).mean() == pytest.approx(0.7, abs=0.04)
    assert (CLASSES.asked(9, records, seed=3).label == found[:9]).all()


def test_a_clip_is_given_its_first_frames():
    clips, labels = stored.records(4, (5, 2, 2, 1))
    records = stored.dataset(clips, labels, "ab")
    spec = ConditionSpec((GivenKind((2, 2, 2, 1)),))
    examples, condition = Loader(records, 4, 0, condition=spec).batch(0)
    assert examples.shape == (4, 3, 2, 2, 1)
    assert condition.given.frames.shape == (4, 2, 2, 2, 1)
    assert condition.given.there.all()
    assert (clips[:, 2:].sum((1, 2, 3, 4)).sum()) == examples.astype(int).sum()


def test_a_sample_has_the_frames_of_a_record_in_shuffled_order():
    clips, labels = stored.records(6, (3, 2, 2, 1))
    records = stored.dataset(clips, labels, "ab")
    spec = ConditionSpec.of_classes(2).with_given(2, (3, 2, 2, 1))
    rows, _ = captioned(8, 6, seed=5)
    asked = spec.asked(8, records, seed=5)
    assert (asked.given.frames == records.images[rows, :2]).all()
    assert (asked.label == records.labels[rows]).all()
    assert spec.modelled((3, 2, 2, 1)) == (1, 2, 2, 1)
    assert (conditioning.whole(records.images[rows, 2:], asked) == records.images[rows]).all()


@pytest.mark.parametrize(
    ("frames", "shape", "words"),
    [(1, (8, 8, 1), "examples are images"), (3, (3, 8, 8, 1), "expected less than the 3 frames")],
)
def test_frames_that_a_clip_cannot_give_are_refused(frames, shape, words):
    with pytest.raises(ConditionError, match=rf"data\.given_frames: found {frames}; {words}"):
        NOTHING.with_given(frames, shape)


def test_a_class_is_found_by_index_or_by_name():
    assert [CLASSES.label.index(one) for one in (2, "dog")] == [2, 1]
    with pytest.raises(
        ConditionError, match="found 'hose'; the nearest of 3 class names is 'house'"
    ):
        CLASSES.label.index("hose")
    with pytest.raises(ConditionError, match="found 3; expected 0 to 2"):
        CLASSES.label.index(3)


def test_a_name_is_registered_once(vector):
    class Other(VectorKind):
        pass

    with pytest.raises(ConditionError, match="condition kind 'vector'"):
        conditioning.register(Other)
    assert conditioning.register(vector) is vector


def test_a_network_refuses_other_conditions():
    net = Network(configs.tiny(condition=CLASSES))
    z, logsnr, _ = configs.inputs(configs.tiny())
    shapes = net.shapes()
    with pytest.raises(ConditionError, match="the condition lacks label"):
        jax.eval_shape(net.apply, shapes, z, logsnr, Condition())
    extra = Condition(label=jnp.zeros(3, jnp.int32), extra={"vector": jnp.zeros((3, 2))})
    with pytest.raises(ConditionError, match="the condition has vector"):
        jax.eval_shape(net.apply, shapes, z, logsnr, extra)


def test_a_condition_that_the_network_would_ignore_is_refused():
    with pytest.raises(ModelError, match="condition: found given frames"):
        configs.tiny(condition=ConditionSpec((GivenKind((2, 8, 8, 3)),)))
    with pytest.raises(ModelError, match=r"model\.blocks: found no transformer"):
        configs.tiny(blocks=("res", "res"), condition=ConditionSpec((TEXT,)))


def test_an_unconditional_network_has_no_embedding_of_classes():
    net = Network(configs.tiny(condition=NOTHING))
    z, logsnr, _ = configs.inputs(configs.tiny())
    assert not [name for name in net.shapes() if "classes" in name]
    out = jax.eval_shape(net.apply, net.shapes(), z, logsnr, Condition())
    assert out.shape == z.shape


def test_a_kind_from_outside_reaches_the_network(both):
    net = Network(configs.tiny(condition=both))
    assert net.shapes()["conditioning/vector/kernel"].shape == (2, 8)
    apply, weights = jax.jit(net.apply), configs.weights(net)
    z, logsnr, condition = configs.inputs(configs.tiny(condition=ConditionSpec.of_classes(3)))

    def output(value):
        given = condition._replace(extra={"vector": jnp.full((3, 2), value)})
        return apply(weights, z, logsnr, given)

    assert jnp.abs(output(0.0) - output(1.0)).max() > 1e-3


ALLOWED = re.compile(
    r"""sid2core/(
    conditioning/ | data/ | models/(conditioning|fit)\.py   # they open conditions
    | metrics/                                            # class metrics, files of samples
    | report/ | cli/samples?\.py                          # what people look at has class names
    | config/                                             # names of parameters
    | typing\.py                                          # the shape of a vector of labels
    | inference/(checks|drawn_files|model|public|request)\.py  # label= of the public sample()
    | serving/(asked|models)\.py                          # what people choose on a page
    | training/sample_prompts\.py                         # names of classes that a user writes
    | exporting/                                          # networks of other libraries
    | evaluation/sample_sets\.py                          # the parameter eval.labels
    | evaluation/clips/                                   # clips that people look at
    | plan/tailored/(captions|preset_file)\.py            # the parameter data.unlabelled
    | __init__\.py
)""",
    re.VERBOSE,
)


def test_no_other_module_mentions_labels():
    found = [
        f"{path.relative_to(tiny.ROOT).as_posix()}:{number}: {line.strip()}"
        for path in sorted((tiny.ROOT / "sid2core").rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if "label" in line.lower() and not ALLOWED.match(path.relative_to(tiny.ROOT).as_posix())
    ]
    assert not found


def test_importing_conditions_does_not_import_jax():
    code = "import sys, sid2core.conditioning; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=tiny.environment()).returncode == 0
