"""Baselines and scores of predicted clips, with samplers whose samples are known."""

import numpy as np
import pytest

from sid2core import config
from sid2core.conditioning import ConditionSpec, GivenKind
from sid2core.evaluation import drawing, measuring
from sid2core.evaluation.clips import baselines, predictions
from sid2core.evaluation.measuring import Measurement
from sid2core.metrics.scores import Score
from tests.data import stored
from tests.evaluation import samplers

GIVEN = ConditionSpec((GivenKind((2, 4, 4, 1)),))
SEED = 5


def clips(count=30):
    """Every pixel of frame t of clip n is 5 n + t."""
    numbers = 5 * np.arange(count)[:, None] + np.arange(5)
    pixels = numbers[:, :, None, None, None] * np.ones((4, 4, 1), int)
    return stored.dataset(pixels.astype(np.uint8), np.zeros(count, np.int32), ("clip",))


def images(one, folder, rows=slice(None)):
    run = samplers.run(folder)
    return one.source(run)(one.indices[rows], one.condition(rows))[0][..., 0, 0, 0]


def test_a_copy_has_the_given_frames_of_the_samples_and_repeats_the_last(tmp_path):
    data = clips()
    copy, others = baselines.sets(data, GIVEN, 20, SEED)
    rows = baselines.rows(data, 20, SEED)
    found = images(copy, tmp_path)
    np.testing.assert_array_equal(found, 5 * rows[:, None] + np.array([0, 1, 1, 1, 1]))
    np.testing.assert_array_equal(
        copy.condition(slice(3)).given.frames[:, 1, 0, 0, 0], found[:3, 1]
    )
    assert (copy.name, others.name) == ("copy_last", "other_clips")


def test_real_clips_are_whole_and_of_other_videos(tmp_path):
    data = clips()
    _, others = baselines.sets(data, GIVEN, 20, SEED)
    own = baselines.windows(data, GIVEN, 20, SEED)
    assert sorted([*own.indices, *others.indices]) == list(range(30))
    expected = 5 * others.indices[:, None] + np.arange(5)
    np.testing.assert_array_equal(images(others, tmp_path), expected)


def test_a_condition_that_is_repeated_stands_once_and_few_clips_are_no_baseline():
    own = baselines.windows(clips(), GIVEN, 70, SEED)
    assert list(own.indices) == list(range(30))
    assert [one.name for one in baselines.sets(clips(), GIVEN, 25, SEED)] == ["copy_last"]


def test_images_and_clips_without_given_frames_have_no_such_baselines(tmp_path):
    data = clips()
    assert baselines.sets(data, data.condition, 10, SEED) == []
    assert baselines.windows(data, data.condition, 10, SEED) is None
    assert measuring.real_windows(None, samplers.run(tmp_path)) == {}
    settings = config.Prediction(windows=2, samples=2)
    made = predictions.of_model(data, [samplers.spec()], settings, SEED, data.condition)
    measured = {"base": Measurement([], None)}
    assert predictions.added(measured, made, samplers.run(tmp_path)) == measured


def test_the_clips_of_the_conditions_are_a_further_reference(tmp_path):
    run = samplers.run(tmp_path)
    windows = measuring.real_windows(baselines.windows(clips(), GIVEN, 20, SEED), run)
    whole = clips().take(baselines.rows(clips(), 20, SEED))
    features = run.evaluator.features(whole)["classifier.pool"]
    np.testing.assert_allclose(windows["classifier"].mu, features.mean(0), rtol=1e-6)
    drawn = baselines.sets(clips(), GIVEN, 20, SEED)[:1]
    settings = config.read().eval
    found = drawing.draw_and_measure(
        drawn, run, lambda one: measuring.all_scores(one, run.evaluator, settings, windows)
    )
    metrics = [one.metric for one in measuring.joined(found)["copy_last"].scores]
    assert metrics[:3] == ["fd_train", "fd_eval", "fd_windows"]


def test_predictions_are_compared_with_their_own_clips(tmp_path, monkeypatch):
    data, settings = clips(), config.Prediction(windows=4, samples=2)
    made = predictions.of_model(data, [samplers.spec()], settings, SEED, GIVEN)
    real = data.take(made.real.indices)
    assert len(made.sets[0].indices) == 8
    assert (made.others != made.real.indices[:, None]).all()

    def read(one, run):
        assert one is made.sets[0]
        samples = np.stack([np.zeros_like(real), real], axis=1)
        accumulator = run.evaluator.accumulator()
        return drawing.Drawn(accumulator, samples.reshape(-1, *real.shape[1:]), None)

    monkeypatch.setattr(drawing, "read", read)
    names = ("base", "copy_last", "other_clips", "train_images")
    measured = {name: Measurement([], None) for name in names}
    found = predictions.added(measured, made, samplers.run(tmp_path))
    values = {
        name: {one.metric: one.value for one in value.scores} for name, value in found.items()
    }
    assert set(values["base"]) == {"psnr_best_of_2", "psnr_mean"}
    assert values["base"]["psnr_best_of_2"] > 58
    assert values["base"]["psnr_mean"] < values["copy_last"]["psnr_mean"]
    steps = 10 * np.log10(255**2 / np.square([1, 2, 3]))
    assert values["copy_last"]["psnr_best_of_2"] == pytest.approx(steps.mean())
    assert values["other_clips"]["psnr_mean"] < values["copy_last"]["psnr_mean"]
    assert values["train_images"] == {}


def test_repeats_have_means_and_deviations():
    def measured(value, agreement):
        scores = [vars(Score("classifier", "fd_eval", 9, value, value - 1, value + 1, 0.5))]
        return {"scores": scores, "agreement": agreement}

    found = measuring.joined(
        {
            "base": measured(2.0, 0.5),
            "base/repeat-1": measured(4.0, 0.7),
            "real": measured(1.0, None),
        }
    )
    (score,) = found["base"].scores
    assert (score.value, score.low, score.high, score.bias) == (3.0, 2.0, 4.0, 0.5)
    assert score.std == pytest.approx(2**0.5)
    assert found["base"].agreement == pytest.approx(0.6)
    assert (found["real"].scores[0].std, found["real"].agreement) == (None, None)
