"""Averages of a trained model: as they were kept, or made from those that were."""

import logging

import numpy as np
import pytest

import sid2core
from sid2core.conditioning import ConditionSpec
from sid2core.models import network
from sid2core.models.fit import WeightsError
from sid2core.models.network import Network
from sid2core.training import snapshots
from tests.inference.test_public import DIFFUSION
from tests.models import configs
from tests.refusals import refused

NET = Network(configs.tiny(condition=ConditionSpec.of_classes(3)))
WEIGHTS = configs.weights(NET)


def scaled(factor):
    return {name: factor * value for name, value in WEIGHTS.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights that grow with the step t as t / 100; a power function then is a multiple of it."""
    made = tmp_path_factory.mktemp("train")
    network.save(made, NET, scaled(10), {"diffusion": DIFFUSION})
    for step in (500, 1000):
        network.save_weights(made / "snapshots" / snapshots.name(step), scaled(step / 100))
        for width, share in ((0.05, 0.947), (0.1, 0.888)):
            path = made / "snapshots" / snapshots.name(step, f"ema_power_{width}")
            network.save_weights(path, scaled(share * step / 100))
    network.save_weights(made / "ema_power_0.1.safetensors", scaled(8.88))
    return made


def factor(model):
    """What all weights are multiplied by."""
    found = [np.asarray(model.trained.params[name] / WEIGHTS[name]) for name in WEIGHTS]
    values = np.concatenate([one[np.isfinite(one)].ravel() for one in found])
    np.testing.assert_allclose(values, values[0], rtol=1e-4)
    return values[0]


def test_what_was_kept_is_read(folder):
    assert factor(sid2core.load_model(folder)) == pytest.approx(10)
    assert factor(sid2core.load_model(folder, step=500)) == pytest.approx(5)
    assert factor(sid2core.load_model(folder, width=0.1)) == pytest.approx(8.88)
    assert factor(sid2core.load_model(folder, width=0.05, step=500)) == pytest.approx(4.735)


def test_another_width_is_made_from_the_snapshots(folder):
    """The mean of t / 100 with the weights of a power function is (g+1) / (g+2) T / 100."""
    assert factor(sid2core.load_model(folder, width=0.08)) == pytest.approx(9.13, rel=0.01)


def test_a_coarse_average_says_how_coarse(folder, caplog):
    with caplog.at_level(logging.WARNING):
        sid2core.load_model(folder, width=0.25)
    assert "keep more snapshots, or widths nearer to it" in caplog.text


def test_what_was_not_kept_is_refused_with_what_was(folder):
    with refused(WeightsError, "00000700.safetensors does not exist", "train.snapshots"):
        sid2core.load_model(folder, step=700)
