import json
import shutil

import jax
import numpy as np
import pytest

from sid2core import config
from sid2core.conditioning import ConditionSpec
from sid2core.config import build
from sid2core.models import network
from sid2core.models.fit import WeightsError
from sid2core.models.network import Network
from sid2core.pipeline import artifact
from sid2core.training import initialisation
from tests import tiny
from tests.refusals import refused


def net(shape=(8, 8, 1), classes=10, **model):
    spec = ConditionSpec.of_classes(classes)
    return Network(build.network(tiny.params(model=model).model, shape, spec))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """An earlier model's folder, and its weights."""
    folder = tmp_path_factory.mktemp("earlier")
    weights = jax.jit(net().init)(jax.random.key(1))
    network.save(folder, net(), weights, {"diffusion": {"prediction": "v"}})
    return folder, weights


def read(target, folder=None, freeze=None, prediction="v"):
    init_from = None if folder is None else str(folder)
    settings = tiny.params(train={"init_from": init_from, "freeze": freeze}).train
    return initialisation.read(settings, prediction, target)


def test_by_default_nothing_is_given_and_nothing_fixed():
    for freeze in (None, []):
        found = read(net(), freeze=freeze)
        assert (found.params, found.frozen, found.metadata) == (None, frozenset(), {})


def test_weights_are_an_earlier_models(saved):
    folder, weights = saved
    found = read(net(), folder)
    assert set(found.params) == set(weights)
    assert all((found.params[name] == weights[name]).all() for name in weights)
    digest = artifact.sha256(folder / "model.safetensors")
    assert found.metadata == {"init_from": {"sha256": digest, "image_shape": [8, 8, 1]}}


def test_images_may_be_larger(saved):
    folder, weights = saved
    larger = net((16, 16, 1))
    found = read(larger, folder)
    shapes = {name: value.shape for name, value in found.params.items()}
    assert shapes == {name: value.shape for name, value in larger.shapes().items()}
    resized = [name for name in weights if weights[name].shape != shapes[name]]
    assert resized
    assert all(name.endswith("/position") for name in resized)
    others = set(weights) - set(resized)
    assert all((found.params[name] == weights[name]).all() for name in others)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channels": [8, 24]}, "channels (8, 16) → (8, 24)"),
        ({"classes": 7}, "condition label(classes=10) → label(classes=7)"),
        ({"shape": (8, 8, 3)}, "weights for 1 colours cannot serve 3"),
    ],
)
def test_weights_of_another_network_are_refused(saved, change, words):
    with refused(WeightsError, words):
        read(net(**change), saved[0])


def test_weights_that_predict_something_else_are_refused(saved):
    with pytest.raises(config.ParamsError, match="predicts v, but diffusion.prediction is eps"):
        read(net(), saved[0], prediction="eps")


@pytest.mark.parametrize("absent", ["model.safetensors", "config.json", None])
def test_a_folder_without_a_model_is_refused(saved, tmp_path, absent):
    folder = tmp_path / "copy"
    if absent:
        shutil.copytree(saved[0], folder)
        (folder / absent).unlink()
    found = f"train.init_from: {folder} has no {absent or 'model.safetensors'}"
    with refused(config.ParamsError, found, "DVC removes artifacts/train"):
        read(net(), folder)


def test_a_damaged_model_is_refused(saved, tmp_path):
    shutil.copytree(saved[0], tmp_path, dirs_exist_ok=True)
    settings = json.loads((tmp_path / "config.json").read_text())
    settings["network"]["mid_depth"] += 1
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(WeightsError, match="mid_depth"):
        read(net(), tmp_path)


def test_patterns_name_what_is_frozen(saved):
    shapes = net().shapes()
    found = read(net(), freeze=["conditioning/*", "*/position"])
    assert found.frozen == {
        name for name in shapes if name.startswith("conditioning/") or name.endswith("/position")
    }
    count = sum(int(np.prod(shapes[name].shape)) for name in found.frozen)
    assert found.metadata == {"frozen_parameters": count}


def test_a_pattern_for_nothing_is_refused():
    with refused(
        config.ParamsError, "train.freeze: 'encodr/*' matches no parameter", "conditioning"
    ):
        read(net(), freeze=["conditioning/*", "encodr/*"])


def test_patterns_for_everything_are_refused():
    with pytest.raises(config.ParamsError, match="match every parameter"):
        read(net(), freeze=["*"])
