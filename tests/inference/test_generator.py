import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sid2core import rng
from sid2core.conditioning import Condition
from sid2core.diffusion.clipping import StaticClip
from sid2core.diffusion.guidance import ConstantGuidance, IntervalGuidance, NoGuidance
from sid2core.diffusion.parametrisation import Prediction
from sid2core.diffusion.samplers import DDIM, DDPM, DPMSolver, Heun, Posterior, Step
from sid2core.diffusion.schedule import CosineInterpolated
from sid2core.inference.generator import (
    Denoiser,
    Generator,
    Method,
)
from sid2core.models import cost
from tests import tiny

SCHEDULE = CosineInterpolated(4, 4)
STREAM = rng.key(0, "images")


def method(guidance=None, sampler=None, steps=5, network=None):
    denoiser = Denoiser(network or tiny.Affine(), Prediction.X)
    return Method(
        denoiser, SCHEDULE, sampler or DDPM(), guidance or NoGuidance(), steps, StaticClip()
    )


def drawn(made, params, count=8, batch_size=8, indices=None):
    indices = np.arange(count) if indices is None else np.asarray(indices)
    labels = (indices % 3).astype(np.int32)
    return Generator(made, params, batch_size).images(STREAM, indices, Condition(label=labels))


def bytes_of(x):
    return np.clip(np.round(127.5 * np.asarray(x) + 127.5), 0, 255)


@pytest.mark.parametrize("prediction", Prediction)
def test_a_denoiser_says_x_whatever_its_network_predicts(prediction):
    denoiser, params = Denoiser(tiny.Affine(), prediction), tiny.affine(0.5, 0.1, 0.2, 0.3, 0.4)
    draws = np.random.default_rng(0)
    z = draws.normal(size=(4, 4, 4, 1))
    level, labels = np.array([-6.0, -1.0, 0.0, 4.0]), np.array([0, 1, 2, 3])
    found = denoiser(
        params, *(jnp.asarray(one, jnp.float32) for one in (z, level)), tiny.labels(labels)
    )
    alpha = np.sqrt(1 / (1 + np.exp(-level)))[:, None, None, None]
    sigma = np.sqrt(1 / (1 + np.exp(level)))[:, None, None, None]
    output = 0.5 * z + np.array([0.1, 0.2, 0.3, 0.4])[labels][:, None, None, None]
    expected = {
        Prediction.X: output,
        Prediction.EPS: (z - sigma * output) / alpha,
        Prediction.V: alpha * z - sigma * output,
    }[prediction]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_an_image_costs_an_evaluation_a_step_and_one_more_where_guidance_acts():
    levels = SCHEDULE.logsnr_exact(1 - np.arange(20) / 20)
    inside = int(((levels > -3) & (levels < 5)).sum())
    assert 0 < inside < 20
    forward = cost.forward_gflops(tiny.Affine().config)
    for guidance, nfe in (
        (NoGuidance(), 20),
        (ConstantGuidance(1.0), 40),
        (ConstantGuidance(0.0), 20),
        (IntervalGuidance(1.0, -3.0, 5.0), 20 + inside),
    ):
        made = method(guidance, steps=20)
        assert made.nfe == nfe
        assert made.gflops_image == pytest.approx(nfe * forward)
    assert method(NoGuidance(), Heun(), steps=20).nfe == 39


@pytest.mark.parametrize(
    ("guidance", "expected"),
    [
        (NoGuidance(), [-0.2, 0.1, 0.3]),
        (ConstantGuidance(0.5), [-0.35, 0.1, 0.4]),
        (ConstantGuidance(20.0), [-1.0, 0.1, 1.0]),
        # The last step starts at high log-SNR: outside, the conditional alone is the result.
        (IntervalGuidance(2.0, -20.0, 0.0), [-0.2, 0.1, 0.3]),
        (IntervalGuidance(2.0, 0.0, 20.0), [-0.8, 0.1, 0.7]),
    ],
)
def test_constant_networks_give_their_guided_constants(guidance, expected):
    """(1 + g) shift[label] − g shift[none], clipped, in bytes."""
    images = drawn(method(guidance), tiny.affine(0.0, -0.2, 0.1, 0.3, 0.1), count=3, batch_size=3)
    assert images.dtype == np.uint8
    for image, value in zip(images, expected, strict=True):
        assert np.abs(image - bytes_of(value)).max() <= 1


def test_one_step_turns_the_noise_of_its_key_into_the_image():
    images = drawn(method(steps=1), tiny.affine(0.3, 0.0, 0.1, 0.2, 0.0), count=6)
    for index, image in enumerate(images):
        key = jax.random.fold_in(jax.random.fold_in(STREAM, index), 0)
        noise = np.asarray(jax.random.normal(key, (16,))).reshape(4, 4, 1)
        expected = bytes_of(np.clip(0.3 * noise + 0.1 * (index % 3), -1, 1))
        assert np.abs(image.astype(int) - expected).max() <= 1


def test_a_batch_is_begun_before_the_one_before_it_is_fetched(monkeypatch):
    events, begin = [], Generator._begun

    class Images:
        """A batch that notes when it is waited for."""

        def __init__(self, number, images):
            self.number, self.images = number, images

        def __array__(self, *args, **kwargs):
            events.append(f"{self.number} fetched")
            return np.asarray(self.images)

    def noted(*args):
        number = sum("begun" in event for event in events)
        events.append(f"{number} begun")
        return Images(number, begin(*args))

    made, params = method(), tiny.affine(0.4, -0.1, 0.0, 0.1, 0.05)
    expected = drawn(made, params, count=10, batch_size=4)
    monkeypatch.setattr(Generator, "_begun", noted)
    assert (drawn(made, params, count=10, batch_size=4) == expected).all()
    assert events == [
        "0 begun", "1 begun", "0 fetched", "2 begun", "1 fetched", "2 fetched",
    ]  # fmt: skip
    assert len({image.tobytes() for image in expected}) == 10


def test_every_batch_but_the_first_is_timed():
    one = Generator(method(), tiny.affine(0.4, -0.1, 0.0, 0.1, 0.05), 4)
    for count in (9, 5):  # three batches, then two
        one.images(STREAM, np.arange(count), Condition(label=np.zeros(count, np.int32)))
    assert len(one.seconds) == 2 + 2
    assert min(one.seconds) > 0


@pytest.mark.parametrize("batch_size", [1, 3, 16])
@pytest.mark.parametrize("sampler", [DDPM(), DDIM(), DPMSolver(), Heun()])
def test_an_image_does_not_depend_on_the_size_of_batches(batch_size, sampler):
    """To within a rounding of its bytes: another size may be compiled to other instructions."""
    made = method(ConstantGuidance(1.0), sampler)
    params = tiny.affine(0.4, -0.1, 0.0, 0.1, 0.05)
    expected = drawn(made, params, count=10, batch_size=10).astype(int)
    found = drawn(made, params, count=10, batch_size=batch_size).astype(int)
    assert np.abs(found - expected).max() <= 1
    assert len({image.tobytes() for image in found.astype(np.uint8)}) == 10


def test_an_image_depends_on_its_index_and_not_on_its_neighbours():
    params = tiny.affine(0.4, -0.5, 0.0, 0.5, 0.1)
    all_of_them = drawn(method(), params, count=8, batch_size=4)
    some = drawn(method(), params, indices=[6, 1], batch_size=4)
    assert (some == all_of_them[[6, 1]]).all()


def test_another_stream_is_another_image():
    params, labels = tiny.affine(0.4, -0.5, 0.0, 0.5, 0.1), np.zeros(4, np.int32)
    generator = Generator(method(), params, 4)
    first, other = (
        generator.images(rng.key(0, name), np.arange(4), Condition(label=labels))
        for name in ("a", "b")
    )
    assert (first != other).any(axis=(1, 2, 3)).all()


def test_weights_of_guidance_share_one_compiled_sampler():
    network, params = tiny.Affine(), tiny.affine(0.1, -0.2, 0.1, 0.3, 0.1)
    images = []
    for weight in (0.5, 1.0, 2.0):
        made = method(IntervalGuidance(weight, 0.0, 20.0), steps=7, network=network)
        images.append(drawn(made, params))
        network.traced.append(-1)
    first = network.traced.index(-1)
    assert first > 0
    assert network.traced[first:] == [-1, -1, -1]
    assert (images[0] != images[1]).any()
    assert (images[1] != images[2]).any()


def test_a_student_steps_by_the_posterior():
    """Its variance is that of z_s given z_t and x: sigma_s² (1 − SNR_t / SNR_s)."""
    level_t, level_s = jnp.array([-1.0]), jnp.array([1.5])
    noise = jnp.ones((1, 1, 1, 1))
    zero = jnp.zeros_like(noise)
    z_s, _ = Posterior().step(zero, zero, (), Step(level_t, level_s, noise))
    spread = float(z_s[0, 0, 0, 0])
    expected = (1 - math.exp(-2.5)) / (1 + math.exp(1.5))
    assert spread**2 == pytest.approx(expected, rel=1e-4)
