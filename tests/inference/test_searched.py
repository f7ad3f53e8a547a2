"""The models of a setting of the search: what another folder must hold."""

from dataclasses import replace

import pytest

from sid2core.conditioning import ConditionSpec
from sid2core.diffusion.samplers import ADDIM
from sid2core.inference.guidance_search import Setting
from sid2core.inference.model import Trained
from sid2core.inference.searched import Models
from sid2core.models import network
from sid2core.models.fit import WeightsError
from sid2core.models.network import Network
from sid2core.pipeline import artifact
from tests.inference.test_averages import DIFFUSION
from tests.models import configs
from tests.refusals import refused

LEARNED = configs.learned_kind()
TEXT = ConditionSpec().with_text(LEARNED)
OTHER_NULL = ConditionSpec().with_text(replace(LEARNED, null_tokens="AgAAAAEAAAA="))
"""The null is the prompt with the tokens 2 and 1."""


def saved(folder, **changes):
    net = Network(configs.tiny(**({"condition": TEXT} | changes)))
    network.save(folder, net, configs.weights(net), {"diffusion": DIFFUSION})
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return Trained.load(saved(tmp_path_factory.mktemp("base")))


def test_the_trained_negative_is_that_of_its_stage(base, tmp_path):
    with artifact.create("train_negative", {}, root=tmp_path) as draft:
        saved(draft.folder, emb_channels=4)
    made = artifact.load("train_negative", root=tmp_path)
    setting = Setting(1.0, negative="train_negative", sampler="addim eta=0.2", steps=3)
    found = Models(base, made).of(setting)
    assert found.worse.denoiser.network.config.emb_channels == 4
    assert (found.sampler, found.steps) == (ADDIM(0.2), 3)
    assert Models(base, made).of(Setting(0.0)).worse is None


def test_a_negative_prompt_is_no_difference(base, tmp_path):
    prompted = base.with_condition(OTHER_NULL)
    found = Models(prompted).of(Setting(1.0, negative=str(saved(tmp_path))))
    assert found.worse.denoiser.network.config.condition == OTHER_NULL


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"condition": ConditionSpec()}, "condition"), ({"image_shape": (12, 12, 3)}, "image_shape")],
)
def test_a_model_of_other_data_is_refused(base, tmp_path, changes, name):
    folder = saved(tmp_path, **changes)
    with refused(WeightsError, f"{folder}: {name} is", "expected the same images and conditions"):
        Models(base).of(Setting(1.0, negative=str(folder)))
