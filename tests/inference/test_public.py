"""The public interface: load a folder, draw images."""

import json
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

import sid2core
from sid2core import config
from sid2core.conditioning import ConditionError, ConditionSpec
from sid2core.config import SAMPLERS
from sid2core.config.registry import FromFields, Kind
from sid2core.diffusion.guidance import ConstantGuidance
from sid2core.diffusion.samplers import Posterior
from sid2core.inference.public import SampleError
from sid2core.models import network
from sid2core.models.fit import WeightsError
from sid2core.models.network import Network
from tests import tiny
from tests.models import configs
from tests.refusals import refused

DIFFUSION = json.loads(
    (tiny.ROOT / "tests/models/fixtures/format1/base/config.json").read_text(encoding="utf-8")
)["diffusion"]


def saved(folder, condition, **extra):
    net = Network(configs.tiny(condition=condition))
    network.save(folder, net, configs.weights(net), {"diffusion": DIFFUSION, **extra})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    spec = ConditionSpec.of_classes(3, ("cat", "dog", "house"))
    return saved(tmp_path_factory.mktemp("base"), spec)


@pytest.fixture(scope="module")
def model(folder):
    return sid2core.load_model(folder)


def test_images_are_functions_of_seed_and_index(model):
    images = model.sample(3, label="dog", steps=2)
    assert images.dtype == np.uint8
    assert images.shape == (3, 8, 8, 3)
    assert (model.sample(3, label=1, steps=2) == images).all()
    assert (model.sample(3, label=[1, 1, 1], steps=2, seed=0) == images).all()
    assert (model.sample(3, label=1, steps=2, seed=1) != images).any()
    assert (model.sample(3, label=2, steps=2) != images).any()


def test_without_a_class_every_class_is_drawn_in_turn(model):
    assert (model.sample(3, steps=2) == model.sample(3, label=[0, 1, 2], steps=2)).all()


def test_guidance_is_a_weight_or_an_object(model):
    plain, guided = (model.sample(3, steps=2, guidance=weight) for weight in (None, 1.5))
    assert (plain != guided).any()
    assert (model.sample(3, steps=2, guidance=ConstantGuidance(1.5)) == guided).all()


@pytest.mark.slow
def test_samplers_are_named_as_in_the_parameters(model):
    images = {name: model.sample(1, label=0, steps=2, sampler=name).tobytes() for name in SAMPLERS}
    assert images["ddpm"] == model.sample(1, label=0, steps=2).tobytes()
    assert images["heun"] != images["ddpm"]
    with pytest.raises(SampleError, match="sampler: .*heum"):
        model.sample(1, sampler="heum")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"label": "hose"}, ConditionError, "the nearest of 3 class names is 'house'"),
        ({"label": 3}, ConditionError, "expected 0 to 2"),
        ({"label": [0]}, ConditionError, "found 1 for 2 images"),
        ({"prompt": "a cat"}, ConditionError, "prompt: the model takes no text; it takes `label`"),
    ],
)
def test_what_the_model_cannot_do_is_refused(model, arguments, error, message):
    with pytest.raises(error, match=message):
        model.sample(2, **arguments)


def test_a_student_has_its_own_steps_and_sampler(tmp_path):
    student = sid2core.load_model(saved(tmp_path, ConditionSpec.of_classes(3), student_steps=2))
    images = student.sample(2, label=0)
    assert (student.sample(2, label=0, steps=2) == images).all()
    assert (student.sample(2, label=0, sampler=Posterior(1.0)) == images).all()
    other = {"student_steps": 2, "student_eta": 0.5}
    half = sid2core.load_model(saved(tmp_path / "half", ConditionSpec.of_classes(3), **other))
    assert half.trained.student_sampler == Posterior(0.5)
    assert (half.sample(2, label=0) == student.sample(2, label=0, sampler=Posterior(0.5))).all()
    with pytest.raises(SampleError, match="guidance"):
        student.sample(2, guidance=1.0)


def test_an_unconditional_model_takes_no_class(tmp_path):
    model = sid2core.load_model(saved(tmp_path, ConditionSpec()))
    assert model.sample(2, steps=2).shape == (2, 8, 8, 3)
    with pytest.raises(
        ConditionError, match="label: the model has no classes; it is unconditional"
    ):
        model.sample(2, label=0)


def test_a_folder_of_models_lists_them(folder, tmp_path):
    saved(tmp_path / "student_8", ConditionSpec.of_classes(3))
    with pytest.raises(SampleError, match="holds student_8; load one of these"):
        sid2core.load_model(tmp_path)


def test_class_names_of_older_weights_are_found_beside_them(tmp_path):
    place = saved(tmp_path / "train", ConditionSpec.of_classes(2))
    (tmp_path / "prepare").mkdir()
    metadata = {"metadata": {"class_names": ["cat", "dog"]}}
    (tmp_path / "prepare" / "manifest.json").write_text(json.dumps(metadata))
    assert sid2core.load_model(place).class_names == ("cat", "dog")


def test_importing_the_package_is_cheap():
    code = "import sys, sid2core; sys.exit(bool({'jax', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], env=tiny.environment()).returncode == 0


@pytest.mark.parametrize("steps", [0, -1])
def test_a_number_of_steps_below_one_is_refused(model, steps):
    with refused(SampleError, "steps", "expected 1 or more"):
        model.sample(1, steps=steps)


class Damped(config.Section):
    """A parameter without a default."""

    factor: config.Positive


@dataclass(frozen=True)
class Damping:
    """A sampler that needs a value."""

    factor: int


@pytest.mark.parametrize("target", [FromFields(f"{__name__}:Damping"), f"{__name__}:Damping"])
def test_a_sampler_without_defaults_is_not_drawn_by_its_name(model, monkeypatch, target):
    monkeypatch.setitem(SAMPLERS._kinds, "damped", Kind("damped", Damped, target))
    with refused(SampleError, "damped needs factor", "pass the sampler object"):
        model.sample(1, steps=1, sampler="damped")


def test_a_folder_that_does_not_exist_is_named_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refused(WeightsError, f"folder {tmp_path / 'nowhere'} does not exist") as caught:
        sid2core.load_model("nowhere")
    assert "dvc repro" not in str(caught.value)
    (tmp_path / "dvc.yaml").touch()
    with refused(WeightsError, "artifacts/train", "run `dvc repro` to make it"):
        sid2core.load_model("artifacts/train")
