"""The judge of captions: its loss in closed form, what it learns, and its files."""

from dataclasses import asdict, replace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from sid2core import config
from sid2core.conditioning import Condition
from sid2core.evaluation import measuring
from sid2core.metrics.captions import scores, training
from sid2core.metrics.captions.asked import of_rows
from sid2core.metrics.captions.extractor import (
    ATTRIBUTES,
    CONFIG,
    VECTOR,
    WEIGHTS,
    CaptionExtractor,
)
from sid2core.metrics.errors import MetricsError
from tests import tiny
from tests.data import stored
from tests.metrics.captions import made
from tests.metrics.evaluators import mean_colour_evaluator

SETTINGS = config.Reference.model_validate(
    tiny.PARAMS["reference"]
    | {"channels": [8], "feature_size": 16, "steps": 240, "batch_size": 24, "learning_rate": 0.01}
)


def loss(similar, caption):
    value, hits = training.contrast(jnp.asarray(similar, jnp.float32), jnp.asarray(caption))
    return float(value), float(hits)


def test_the_loss_of_different_captions_is_the_cross_entropy_of_rows_and_columns():
    similar = np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32)
    rows, columns = (-np.diag(log_softmax(one, axis=1)).mean() for one in (similar, similar.T))
    value, hits = loss(similar, np.arange(5, dtype=np.int32))
    assert value == pytest.approx(0.5 * (rows + columns), rel=1e-5)
    assert hits == pytest.approx(np.mean(similar.argmax(1) == np.arange(5)))


def test_equal_captions_share_the_target_and_images_without_one_do_not_count():
    """Where all that is equal is equally similar, the loss is the entropy of the target."""
    caption = np.array([0, 1, 0, -1], np.int32)
    similar = np.where(caption[:, None] == caption[None, :], 50.0, -50.0)
    similar[:, 3] = 80.0
    value, hits = loss(similar, caption)
    assert value == pytest.approx(2 / 3 * np.log(2), rel=1e-5)
    assert hits == pytest.approx(1.0)


@pytest.fixture(scope="module")
def trained():
    pairs = [(s, c) for s in made.SHAPES for c in made.COLOURS if (s, c) != made.UNSEEN]
    return training.train(made.dataset(60, pairs), made.dataset(120), made.ATTRIBUTES, SETTINGS, 0)


def test_it_learns_captions_and_attributes(trained):
    extractor, hits = trained
    assert hits > 0.8
    assert len(extractor.design.seen) == 5
    found = {one.metric: one.value for one in scores.of_split(extractor, made.dataset(40))}
    assert set(found) == {
        "retrieval",
        *(f"{a}_accuracy{s}" for a in made.ATTRIBUTES for s in ("", "_seen", "_unseen")),
    }
    assert found["colour_accuracy_seen"] > 0.8
    assert found["shape_accuracy_seen"] > 0.7
    assert found["colour_accuracy_unseen"] > 0.8
    assert found["shape_accuracy_unseen"] > 0.8
    assert found["retrieval"] > 0.6


def test_only_heads_of_attributes_learn_from_unseen_pairs(trained):
    extractor, held_out = trained[0], made.dataset(60)
    seen = [pair for pair in scores.pairs(held_out) if pair != made.UNSEEN]
    own = made.dataset(48, seen[:5])
    settings = SETTINGS.model_copy(update={"steps": 2})
    for batch in training._batches(
        own, held_out, extractor.tokenizer, extractor.design, settings, 0
    ):
        assert len(batch.images) == len(batch.ids) == 24 + 3
        assert batch.caption[24:].tolist() == [-1, -1, -1]
        assert (batch.caption[:24] >= 0).all()
        values = zip(extractor.design.attributes.items(), batch.attributes[-1], strict=True)
        named = {name: possible[index] for (name, possible), index in values}
        assert (named["shape"], named["colour"]) == made.UNSEEN
        learned = held_out.images[scores.taught(held_out, extractor.design.seen)]
        assert any(np.array_equal(batch.images[-1], image) for image in learned)


def test_its_files_give_the_same_features(trained, tmp_path):
    extractor, images = trained[0], made.dataset(10).images
    extractor.save(lambda name: tmp_path / name)
    again = CaptionExtractor.load(lambda name: tmp_path / name)
    assert again.provenance == extractor.provenance
    expected = extractor.features(images)
    assert {kind: one.tobytes() for kind, one in again.features(images).items()} == {
        kind: one.tobytes() for kind, one in expected.items()
    }
    assert set(expected) == {VECTOR, ATTRIBUTES}
    texts = ["plain red", "", "x" * 10_000, "<b>قطة 🐈"]
    np.testing.assert_array_equal(again.texts(texts), extractor.texts(texts))
    np.testing.assert_allclose(np.linalg.norm(extractor.texts(texts), axis=1), 1, rtol=1e-5)
    (tmp_path / WEIGHTS).write_bytes(b"no weights")
    with pytest.raises(MetricsError, match="holds no readable caption extractor"):
        CaptionExtractor.load(lambda name: tmp_path / name)
    extractor.save(lambda name: tmp_path / name)
    text = (tmp_path / CONFIG).read_text()
    (tmp_path / CONFIG).write_text(text.replace('"feature_size": 16', '"feature_size": 8'))
    with pytest.raises(MetricsError, match="weights do not fit"):
        CaptionExtractor.load(lambda name: tmp_path / name)
    with pytest.raises(MetricsError, match="the caption extractor expects"):
        extractor.features(np.zeros((1, 5, 5, 3), np.uint8))


def test_the_evaluation_has_them_beside_the_distances(trained):
    extractor, data = trained[0], made.dataset(40)
    evaluator = replace(mean_colour_evaluator(), captions=extractor)

    learned = scores.taught(data, extractor.design.seen)
    assert {scores.pairs(data)[row] for row in learned.tolist()} == {made.UNSEEN}
    rows = np.setdiff1d(np.arange(40), learned)

    def measured(asked):
        accumulator = evaluator.accumulator(asked)
        accumulator.add(data.images[rows], Condition())
        return measuring.all_scores(accumulator, evaluator, tiny.params().eval)["scores"]

    found = measured(of_rows(data, rows))
    expected = [asdict(one) for one in scores.of_split(extractor, data)]
    assert [one for one in found if one["extractor"] == "captions"] == expected
    assert measured(None) == found[: -len(expected)]


def test_data_without_two_captions_have_no_judge():
    assert training.captioned(made.dataset(4))
    assert not training.captioned(made.dataset(4, [("plain", "red")]))
    assert not training.captioned(stored.numbered([4]))
