"""Example clips: which are drawn, from which noise and conditions, and their error over time."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from sid2core import config, rng
from sid2core.conditioning import ConditionSpec, GivenKind
from sid2core.diffusion.parametrisation import Prediction
from sid2core.evaluation import drawing, measuring, samplers_table
from sid2core.evaluation.clips import clip_table, examples, predictions
from sid2core.evaluation.clips.predictions import Predictions
from sid2core.inference.generator import Denoiser, Generator
from sid2core.metrics.clips import prediction
from sid2core.models.uvit import UViTConfig
from sid2core.pipeline import artifact
from tests import tiny
from tests.data import stored
from tests.evaluation.samplers import SEED, run, spec, stopped_after

FRAMES, GIVEN = 5, 2


@dataclass(frozen=True)
class Moving(tiny.Affine):
    """Answers with the shift of the class, whatever the frames."""

    config: UViTConfig = replace(tiny.Affine.config, image_shape=(FRAMES, 4, 4, 1))

    def apply(self, params, z, logsnr, condition, dropout_key=None):
        """The network's signature."""
        return params["scale"] * z + params["shift"][condition.label].reshape(-1, 1, 1, 1, 1)


def sampler(name="searched", student=False):
    one = spec()
    method = replace(one.method, denoiser=Denoiser(Moving(), Prediction.X))
    return replace(one, name=name, method=method, student=student)


@dataclass(frozen=True)
class Continuing(tiny.Affine):
    """Answers with the mean of the given frames, or with 0 where they are dropped."""

    config: UViTConfig = replace(
        Moving.config, condition=ConditionSpec((GivenKind((GIVEN, 4, 4, 1)),))
    )

    def apply(self, params, z, logsnr, condition, dropout_key=None):
        """The network's signature."""
        mean = condition.given.frames.astype(z.dtype).mean((1, 2, 3, 4), keepdims=True) / 255
        there = condition.given.there.reshape(-1, 1, 1, 1, 1).astype(z.dtype)
        return params["scale"] * z + mean * there


def continuing(one):
    """The sampler of a model that continues clips."""
    return replace(one, method=replace(one.method, denoiser=Denoiser(Continuing(), Prediction.X)))


def clips(count=6, frames=FRAMES):
    shape = (count, frames, 4, 4, 1)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return stored.dataset(pixels, np.arange(count) % 3, "abc")


SPECS = [sampler("base"), sampler(), sampler("student_2", student=True)]
NO_PREDICTIONS = Predictions(None, 0, np.empty((0, 0), np.int64), [])


def draw(made, where):
    drawing.draw_and_measure(made.sets, where, measuring.quality)
    with artifact.create("evaluate", {}, root=where.folder) as draft:
        examples.save(draft, made, where)
    return artifact.load("evaluate", root=where.folder)


def test_samples_have_the_conditions_of_clips_of_the_eval_split(tmp_path):
    data, where = clips(frames=FRAMES + 2), run(tmp_path)
    saved = draw(examples.of_model(data, SPECS, SEED, NO_PREDICTIONS), where)
    assert saved.metadata["clips"] == ["searched", "student_2"]
    with np.load(saved.path(clip_table.CLIPS)) as arrays:
        found = dict(arrays)
    rows = found["records"]
    assert sorted(rows.tolist()) == [*range(6)]
    np.testing.assert_array_equal(found["labels"], data.labels[rows])
    np.testing.assert_array_equal(found["real"], data.take(rows)[:, :FRAMES])
    assert found["given_frames"] == 0
    generator = Generator(SPECS[1].method, SPECS[1].params, 4)
    stream, condition = rng.key(SEED, "evaluate/clips"), data.condition.of_rows(data, rows)
    for index in range(6):
        label = np.repeat(data.labels[rows[index]], 3)
        expected = generator.images(
            stream, np.arange(3 * index, 3 * index + 3), condition._replace(label=label)
        )
        np.testing.assert_array_equal(found["searched"][index], expected)
    assert not (saved.folder / clip_table.ERROR).exists()


def test_given_frames_take_the_predictions_that_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "CLIPS", 2)
    data, where = clips(frames=FRAMES + GIVEN), run(tmp_path)
    specs, settings = [*map(continuing, SPECS)], config.Prediction(windows=4, samples=5)
    kinds = specs[0].method.denoiser.network.config.condition
    continued = predictions.of_model(data, specs, settings, SEED, kinds)
    made = examples.of_model(data, specs, SEED, continued)
    assert made.drawn == []
    saved = draw(made, where)
    assert saved.metadata["clips"] == ["searched", "student_2"]
    with np.load(saved.path(clip_table.CLIPS)) as arrays:
        found = dict(arrays)
    assert found["given_frames"] == GIVEN
    np.testing.assert_array_equal(found["real"], data.take(found["records"]))
    assert found["searched"].shape == (2, 3, *data.shape)
    given = np.broadcast_to(found["real"][:, None, :GIVEN], (2, 3, GIVEN, 4, 4, 1))
    np.testing.assert_array_equal(found["searched"][:, :, :GIVEN], given)

    table = pd.read_csv(saved.path(clip_table.ERROR))
    assert set(table["sampler"]) == {"searched", "student_2", samplers_table.COPY}
    assert set(zip(table["clips"], table["samples"], strict=True)) == {(4, 5), (4, 1)}
    assert sorted(set(table["frame"])) == [*range(GIVEN + 1, GIVEN + FRAMES + 1)]
    drawn = drawing.read(made.sets[0], where).images.reshape(4, 5, *data.shape)
    scores = prediction.scores(data.take(made.rows), drawn, GIVEN)
    (best,) = (one.value for one in scores if one.metric == "psnr_best_of_5")
    own = table[(table["sampler"] == "searched") & (table["choice"] == clip_table.BEST)]
    assert own["psnr"].mean() == pytest.approx(best, abs=1e-4)


def test_of_images_nothing_is_drawn(tmp_path):
    images = stored.numbered([4])
    made = examples.of_model(images, SPECS, SEED, NO_PREDICTIONS)
    assert made.sets == made.drawn == []
    assert "clips" not in draw(made, run(tmp_path)).metadata


def test_a_stopped_run_goes_on_with_what_is_drawn(tmp_path, monkeypatch):
    made = examples.of_model(clips(), SPECS, SEED, NO_PREDICTIONS)
    whole, stopped = (tmp_path / name for name in ("whole", "stopped"))
    for folder in (whole, stopped):
        folder.mkdir()
    with stopped_after(monkeypatch, 2):
        draw(made, run(stopped))
    digests = {draw(made, run(folder)).digest for folder in (whole, stopped)}
    assert len(digests) == 1


def test_error_is_the_psnr_of_each_predicted_frame():
    real = np.zeros((2, 4, 3, 3, 1), np.uint8)
    samples = np.zeros((2, 3, 4, 3, 3, 1), np.uint8)
    # Of clip 0 sample 1 is the nearest, of clip 1 sample 2; given frames do not count.
    samples[0, :, 2], samples[0, 1, 2] = 51, 5
    samples[1, :, 3], samples[1, 2, 3] = 51, 5
    samples[:, :, 0] = 255
    table = pd.DataFrame(examples.errors("base", real, samples, 2))
    assert table.columns.tolist() == [*clip_table.TEXTS, *clip_table.NUMBERS]
    finest = 10 * np.log10(255**2 * 12)
    far, near = (20 * np.log10(255 / level) for level in (51, 5))
    mean = (2 * far + near + 3 * finest) / 6
    best = (near + finest) / 2
    expected = [("mean", 3, mean), ("mean", 4, mean), ("best", 3, best), ("best", 4, best)]
    for row, (choice, frame, psnr) in zip(table.itertuples(), expected, strict=True):
        assert (row.sampler, row.choice, row.frame) == ("base", choice, frame)
        assert (row.clips, row.samples) == (2, 3)
        assert row.psnr == pytest.approx(psnr, abs=1e-3)
