from dataclasses import dataclass, field

import numpy as np
import pytest

from sid2core import evaluation, rng
from sid2core.diffusion.guidance import ConstantGuidance, IntervalGuidance, NoGuidance
from sid2core.diffusion.parametrisation import Prediction
from sid2core.diffusion.samplers import DDPM
from sid2core.diffusion.schedule import CosineInterpolated
from sid2core.evaluation import Contestant
from sid2core.metrics.quality import Quality
from sid2core.models import cost
from sid2core.sampling import Denoiser, Generator, Method, balanced_labels
from tests import tiny
from tests.data import stored

PARAMS = tiny.params(
    sampling={"batch_size": 4},
    eval={"samples": 10, "keep": 10, "grid_columns": 5, "chunk_size": 4},
)
QUALITY = Quality(1000, fd_train=1.23456789, fd_eval=2.5, agreement=0.75)


def contestant(guidance=None, steps=3, scale=0.4):
    denoiser = Denoiser(tiny.Affine(), Prediction.X)
    schedule = CosineInterpolated(4, 4)
    method = Method(denoiser, schedule, DDPM(), guidance or NoGuidance(), steps, True)
    return Contestant("base", "the base", method, tiny.affine(scale, -0.4, 0.0, 0.4, 0.1))


def drawn(folder, one=None, advance=lambda count: None, params=PARAMS):
    return evaluation.draw(one or contestant(), params, folder, advance)


def test_sample_i_has_label_i_mod_k_and_the_key_of_i(tmp_path):
    one = contestant()
    samples, found = drawn(tmp_path, one)
    labels = balanced_labels(10, 3)
    generator = Generator(one.method, one.params, 4)
    expected = generator.images(rng.key(PARAMS.seed, "evaluate"), np.arange(10), labels)
    assert found == 0
    assert (samples.labels == labels).all()
    assert samples.images.dtype == np.uint8
    assert (samples.images == expected).all()


def test_samplers_are_compared_on_the_same_noise(tmp_path):
    """One step of either network: they differ by their constant, pixel by pixel."""
    plain, _ = drawn(tmp_path / "plain", contestant(steps=1, scale=0.1))
    guided, _ = drawn(tmp_path / "guided", contestant(ConstantGuidance(0.5), steps=1, scale=0.1))
    moved = guided.images.astype(int) - plain.images
    for label, by in ((0, -0.25), (1, -0.05), (2, 0.15)):
        assert np.abs(moved[plain.labels == label] - 127.5 * by).max() <= 1


@pytest.mark.parametrize("chunk_size", [1, 3, 10, 64])
def test_the_size_of_chunks_does_not_matter(tmp_path, chunk_size):
    """To within a rounding: all are drawn in batches of one size."""
    params = PARAMS.model_copy(
        update={"eval": PARAMS.eval.model_copy(update={"chunk_size": chunk_size})}
    )
    expected, _ = drawn(tmp_path / "a")
    found, _ = drawn(tmp_path / "b", params=params)
    assert (found.images == expected.images).all()
    assert (found.labels == expected.labels).all()


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


def test_chunks_that_are_there_are_read_and_not_drawn_again(tmp_path):
    drawn(tmp_path)
    marked = np.full((4, 4, 4, 1), 7, np.uint8)
    np.save(tmp_path / "chunk-00000004.npy", marked)
    samples, found = drawn(tmp_path)
    assert found == 3
    assert (samples.images[4:8] == marked).all()


def test_a_chunk_that_was_cut_short_is_drawn_again(tmp_path):
    expected, _ = drawn(tmp_path)
    last = tmp_path / "chunk-00000008.npy"
    last.with_suffix(".tmp").write_bytes(last.read_bytes()[:20])
    last.unlink()
    samples, found = drawn(tmp_path)
    assert found == 2
    assert (samples.images == expected.images).all()


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
    row = evaluation.row(one, QUALITY)
    assert (row.sampler, row.title, row.steps) == ("base", "the base", 8)
    assert (row.guidance_weight, row.logsnr_min, row.logsnr_max) == (weight, low, high)
    assert row.nfe == one.method.nfe >= 8
    assert row.gflops_forward == pytest.approx(cost.forward_gflops(tiny.Affine().config))
    assert row.gflops_image == pytest.approx(row.nfe * row.gflops_forward)
    assert (row.samples, row.fd_train, row.fd_eval) == (1000, 1.234568, 2.5)


def test_metrics_carry_their_sample_count_in_the_name():
    row = evaluation.row(contestant(), QUALITY)
    found = evaluation.metrics([row])
    assert list(found) == ["base"]
    assert found["base"] == {
        "fd_eval_1k": 2.5,
        "fd_train_1k": 1.23457,
        "agreement_1k": 0.75,
        "nfe": 3,
        "gflops_image": round(row.gflops_image, 5),
    }
    other = evaluation.row(contestant(), Quality(40, 1.0, 2.0, 0.5)).metrics()
    assert {"fd_eval_40", "fd_train_40", "agreement_40"} < set(other)


@dataclass
class Recorder:
    """A judge, and its own meter, that remembers what it was shown."""

    images: list = field(default_factory=list)
    labels: list = field(default_factory=list)

    def meter(self):
        return self

    def add(self, images, labels):
        assert len(images) == len(labels) <= SETTINGS.chunk_size
        self.images += [int(image[0, 0, 0]) for image in images]
        self.labels += labels.tolist()

    def result(self):
        return Quality(len(self.images), 1.0, 2.0, 0.5)


def real(count=30):
    """Image n shows n, everywhere."""
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((4, 4, 1), np.uint8)
    labels = np.arange(count, dtype=np.int32) % 3
    return stored.dataset(images, labels, "abc", [7, 7, 7, 9])


SETTINGS = tiny.params(eval={"samples": 20, "keep": 20, "chunk_size": 8}).eval


def test_the_yardstick_is_real_images_without_repetition():
    judge = Recorder()
    row = evaluation.yardstick(real(), judge, SETTINGS, seed=0)
    assert len(set(judge.images)) == len(judge.images) == 20
    assert judge.labels == [shown % 3 for shown in judge.images]
    assert row.sampler == evaluation.YARDSTICK
    assert (row.steps, row.nfe, row.gflops_image, row.guidance_weight) == (None,) * 4
    assert row.metrics() == {"fd_eval_20": 2.0, "fd_train_20": 1.0, "agreement_20": 0.5}


def test_the_yardstick_hangs_on_the_seed():
    judges = [Recorder() for _ in range(3)]
    for seed, judge in zip((0, 0, 1), judges, strict=True):
        evaluation.yardstick(real(), judge, SETTINGS, seed)
    first, again, other = (judge.images for judge in judges)
    assert first == again != other


def test_the_yardstick_takes_all_there_are_if_more_are_asked_for():
    judge = Recorder()
    many = SETTINGS.model_copy(update={"samples": 500})
    assert evaluation.yardstick(real(), judge, many, seed=0).samples == 30
    assert sorted(judge.images) == list(range(30))
