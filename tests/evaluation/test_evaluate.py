from dataclasses import replace

import jax
import numpy as np
import pytest

from sid2core import rng
from sid2core.diffusion.guidance import ConstantGuidance, IntervalGuidance, NoGuidance
from sid2core.diffusion.parametrisation import Prediction
from sid2core.diffusion.samplers import DDPM
from sid2core.diffusion.schedule import CosineInterpolated
from sid2core.evaluation import evaluate
from sid2core.evaluation.evaluate import Contestant, Drawn, Task
from sid2core.inference.generator import Denoiser, Generator, Method, balanced_labels
from sid2core.metrics.scores import Score
from sid2core.models import cost
from sid2core.training import mesh
from tests import tiny
from tests.data import stored
from tests.metrics.evaluators import mean_colour_evaluator

PARAMS = tiny.params(
    sampling={"batch_size": 4},
    eval={"samples": 10, "keep": 10, "grid_columns": 5, "chunk_size": 4},
)
FOUND = [
    Score("classifier", "fd_eval", 1000, 2.5, 2.0, 3.0, 0.125),
    Score("classifier", "fd_train", 1000, 1.23456789),
    Score("classifier", "precision", 1000, 0.5),
    Score("inception", "fid_eval", 1000, 30.0),
]


def real(count=30):
    """Image n shows n, everywhere."""
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((4, 4, 1), np.uint8)
    labels = np.arange(count, dtype=np.int32) % 3
    return stored.dataset(images, labels, "abc", [7, 7, 7, 9])


def contestant(guidance=None, steps=3, scale=0.4):
    denoiser = Denoiser(tiny.Affine(), Prediction.X)
    schedule = CosineInterpolated(4, 4)
    method = Method(denoiser, schedule, DDPM(), guidance or NoGuidance(), steps, True)
    return Contestant("base", "the base", method, tiny.affine(scale, -0.4, 0.0, 0.4, 0.1))


def task(sharding=None, batch_size=4, **changes):
    settings = PARAMS.eval.model_copy(update=changes)
    params = PARAMS.model_copy(
        update={
            "eval": settings,
            "sampling": PARAMS.sampling.model_copy(update={"batch_size": batch_size}),
        }
    )
    return Task.of(params, real(), mean_colour_evaluator(), sharding)


def drawn(folder, one=None, advance=lambda count: None, asked=None):
    asked = asked or task()
    found = evaluate.draw(one or contestant(), asked, folder, advance)
    return Drawn.read(folder, asked), found


def test_sample_i_has_label_i_mod_k_and_the_key_of_i(tmp_path):
    one = contestant()
    samples, found = drawn(tmp_path, one)
    labels = balanced_labels(10, 3)
    generator = Generator(one.method, one.params, 4)
    expected = generator.images(rng.key(PARAMS.seed, "evaluate"), np.arange(10), labels)
    assert found == 0
    assert (task().labels == labels).all()
    assert samples.images.dtype == np.uint8
    assert (samples.images == expected).all()
    features = samples.accumulator.features(task().evaluator.references[0], "pool")
    np.testing.assert_array_equal(features, task().evaluator.features(expected)["classifier.pool"])


def test_samplers_are_compared_on_the_same_noise(tmp_path):
    """One step of either network: they differ by their constant, pixel by pixel."""
    plain, _ = drawn(tmp_path / "plain", contestant(steps=1, scale=0.1))
    guided, _ = drawn(tmp_path / "guided", contestant(ConstantGuidance(0.5), steps=1, scale=0.1))
    moved = guided.images.astype(int) - plain.images
    for label, by in ((0, -0.25), (1, -0.05), (2, 0.15)):
        assert np.abs(moved[task().labels == label] - 127.5 * by).max() <= 1


@pytest.mark.parametrize("chunk_size", [1, 3, 10, 64])
def test_the_size_of_chunks_does_not_matter(tmp_path, chunk_size):
    """All are drawn in batches of one size."""
    expected, _ = drawn(tmp_path / "a")
    found, _ = drawn(tmp_path / "b", asked=task(chunk_size=chunk_size))
    assert (found.images == expected.images).all()
    assert found.accumulator.quality() == expected.accumulator.quality()


@pytest.mark.parametrize("devices", [1, 2, 8])
@pytest.mark.parametrize("batch_size", [7, 64])
def test_neither_batches_nor_devices_matter(tmp_path, devices, batch_size):
    """Seven do not share the devices evenly: the next number that does is drawn at once."""
    settings = PARAMS.runtime.mesh.model_copy(update={"data": devices, "fsdp": 1})
    sharding = mesh.layout(settings).batch
    assert (devices == 1) == (sharding is None)
    expected, _ = drawn(tmp_path / "a")
    found, _ = drawn(tmp_path / "b", asked=task(sharding, batch_size))
    assert np.abs(found.images.astype(int) - expected.images).max() <= 1
    assert (found.images == expected.images).mean() > 0.99
    first, second = (one.accumulator.quality() for one in (found, expected))
    assert first.fd_train == pytest.approx(second.fd_train, rel=1e-6)


def test_only_what_is_shown_is_kept(tmp_path):
    whole, _ = drawn(tmp_path / "a")
    some, _ = drawn(tmp_path / "b", asked=task(keep=6))
    assert (some.images == whole.images[:6]).all()
    assert len(some.accumulator) == len(whole.accumulator) == 10


def test_labels_may_be_drawn_as_often_as_classes_are():
    labels = np.array([0] * 70 + [2] * 30, np.int32)
    images = np.zeros((100, 4, 4, 1), np.uint8)
    params = PARAMS.model_copy(
        update={"eval": PARAMS.eval.model_copy(update={"labels": "drawn", "samples": 4000})}
    )
    sets = stored.dataset(images, labels, "abc", [100])
    found = Task.of(params, sets, mean_colour_evaluator(), None).labels
    assert found.dtype == np.int32
    np.testing.assert_allclose(np.bincount(found, minlength=3) / 4000, [0.7, 0, 0.3], atol=0.03)
    fewer = params.model_copy(update={"eval": params.eval.model_copy(update={"samples": 9})})
    assert (Task.of(fewer, sets, mean_colour_evaluator(), None).labels == found[:9]).all()


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_resumed_evaluation_gives_the_same_bytes(tmp_path, after):
    undisturbed, _ = drawn(tmp_path / "undisturbed")
    seen = []

    def killed(count):
        seen.append(count)
        if len(seen) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drawn(tmp_path / "killed", advance=killed)
    progress = []
    samples, found = drawn(tmp_path / "killed", advance=progress.append)
    assert found == after
    assert sum(progress) == 10
    assert samples.images.tobytes() == undisturbed.images.tobytes()
    assert samples.grid.tobytes() == undisturbed.grid.tobytes()
    assert samples.accumulator.quality() == undisturbed.accumulator.quality()


def test_chunks_that_are_there_are_read_and_not_drawn_again(tmp_path):
    drawn(tmp_path)
    path = tmp_path / "chunk-00000004.npz"
    arrays = dict(np.load(path)) | {"images": np.full((4, 4, 4, 1), 7, np.uint8)}
    np.savez(path, **arrays)
    samples, found = drawn(tmp_path)
    assert found == 3
    assert (samples.images[4:8] == 7).all()


def test_a_chunk_that_was_cut_short_is_drawn_again(tmp_path):
    expected, _ = drawn(tmp_path)
    last = tmp_path / "chunk-00000008.npz"
    last.with_suffix(".tmp").write_bytes(last.read_bytes()[:20])
    last.unlink()
    samples, found = drawn(tmp_path)
    assert found == 2
    assert (samples.images == expected.images).all()


def test_processes_divide_the_chunks(tmp_path, monkeypatch):
    """Each draws its own; together they leave what one would have."""
    alone, _ = drawn(tmp_path / "alone")
    together, one, asked, progress = tmp_path / "together", contestant(), task(), []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for index in (1, 0):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        assert evaluate.draw(one, asked, together, progress.append) == 0
        assert (together / "grid.npz").exists() == (index == 0)
    assert progress == [4, 4, 2], "the second chunk, then the first and the last"
    found = Drawn.read(together, asked)
    assert found.images.tobytes() == alone.images.tobytes()
    assert found.accumulator.quality() == alone.accumulator.quality()


def test_time_is_that_of_batches_but_the_first(tmp_path):
    """The first may have been compiled; of one batch alone nothing is told."""
    samples, _ = drawn(tmp_path / "some", contestant(steps=2))
    assert 0 < samples.seconds < 60
    one, _ = drawn(tmp_path / "one", asked=task(batch_size=16, chunk_size=16))
    assert one.seconds is None


def test_the_grid_has_a_class_a_row_and_a_key_a_column(tmp_path):
    samples, _ = drawn(tmp_path, contestant(steps=1, scale=0.2))
    assert samples.grid.shape == (3, 5, 4, 4, 1)
    lifted = samples.grid.astype(int) - np.array([-51, 0, 51])[:, None, None, None, None]
    for column in range(5):
        assert np.abs(lifted[:, column] - lifted[0, column]).max() <= 1
        for other in range(column):
            assert np.abs(lifted[0, column] - lifted[0, other]).max() > 1
    assert not any((samples.grid[0, 0] == image).all() for image in samples.images)


@pytest.mark.parametrize(
    ("guidance", "weight", "low", "high"),
    [
        (NoGuidance(), 0.0, None, None),
        (ConstantGuidance(0.5), 0.5, None, None),
        (ConstantGuidance(0.0), 0.0, None, None),
        (IntervalGuidance(2.0, -3.0, 5.0), 2.0, -3.0, 5.0),
    ],
)
def test_a_row_says_how_it_was_guided_and_what_it_cost(guidance, weight, low, high):
    one = contestant(guidance, steps=8)
    row = evaluate.row(one, FOUND, 0.75)
    assert (row.sampler, row.title, row.steps) == ("base", "the base", 8)
    assert (row.guidance_weight, row.logsnr_min, row.logsnr_max) == (weight, low, high)
    assert row.nfe == one.method.nfe >= 8
    assert row.gflops_forward == pytest.approx(cost.forward_gflops(tiny.Affine().config))
    assert row.gflops_image == pytest.approx(row.nfe * row.gflops_forward)
    assert (row.samples, row.fd_train, row.fd_eval) == (1000, 1.234568, 2.5)


def test_metrics_carry_their_sample_count_in_the_name():
    row = evaluate.row(contestant(), FOUND, 0.75)
    assert evaluate.metrics(row, FOUND) == {
        "fd_eval_1k": 2.5,
        "fd_train_1k": 1.23457,
        "fid_eval_1k": 30.0,
        "agreement_1k": 0.75,
        "nfe": 3,
        "gflops_image": round(row.gflops_image, 5),
    }


def test_every_score_is_a_line_with_what_it_is_worth():
    lines = list(evaluate.score_rows("base", FOUND))
    assert [line["metric"] for line in lines] == ["fd_eval", "fd_train", "precision", "fid_eval"]
    assert lines[0] == {
        "sampler": "base",
        "extractor": "classifier",
        "metric": "fd_eval",
        "samples": 1000,
        "value": 2.5,
        "low": 2.0,
        "high": 3.0,
        "bias": 0.125,
        "std": None,
    }


def test_the_table_of_costs_is_the_supplements(tmp_path):
    one, asked = contestant(ConstantGuidance(0.5), steps=8), task()
    samples, _ = drawn(tmp_path, one)
    row = evaluate.cost_row(one, samples, asked)
    assert row["nfe"] == 16
    assert row["tflops_image"] == pytest.approx(16 * row["gflops_forward"] / 1000)
    assert row["seconds_image"] == pytest.approx(samples.seconds, rel=1e-3)
    assert (row["batch_size"], row["devices"]) == (4, 1)


def test_the_baseline_is_real_images_without_repetition():
    asked = task(samples=20)
    accumulator = evaluate.real_data_baseline(real(), asked)
    shown = (
        np.rint(accumulator.features(asked.evaluator.references[0], "pool")[:, 0])
        .astype(int)
        .tolist()
    )
    assert len(set(shown)) == len(shown) == len(accumulator) == 20
    row = evaluate.row(None, evaluate.measured(accumulator, asked.evaluator, asked.settings), 1.0)
    assert row.sampler == evaluate.REAL_DATA
    assert (row.steps, row.nfe, row.gflops_image, row.guidance_weight) == (None,) * 4


def test_the_baseline_hangs_on_the_seed():
    found = []
    for seed in (0, 0, 1):
        asked = replace(task(samples=20), seed=seed)
        accumulator = evaluate.real_data_baseline(real(), asked)
        found.append(accumulator.features(asked.evaluator.references[0], "pool").tolist())
    assert found[0] == found[1] != found[2]


def test_the_baseline_takes_all_there_are_if_more_are_asked_for():
    assert len(evaluate.real_data_baseline(real(), task(samples=500))) == 30
