"""What captions cost is known before there are any."""

import dataclasses
import json

import pytest

from sid2core.cli import main
from sid2core.conditioning import ConditionSpec
from sid2core.config import presets
from sid2core.models.network import Network
from sid2core.plan import captions, text
from sid2core.plan.captions import FrozenText
from sid2core.text.protocol import EncoderCost
from tests import tiny
from tests.models import configs
from tests.plan.test_plan import planned

COST = EncoderCost(parameters=10**9, weight_bytes=2 * 10**9, gflops=50.0, bytes_a_token=2048)


def test_a_learned_encoder_has_the_size_of_its_section():
    learned = {"vocabulary": 300, "channels": 8, "depth": 1, "heads": 2}
    settings = tiny.params(text={"max_tokens": 9, "encoder": {"learned": learned}}).text
    kind = captions.expected_kind(settings)
    assert (kind.tokens, kind.channels, kind.vocabulary, kind.depth, kind.heads) == (
        9,
        8,
        300,
        1,
        2,
    )
    assert captions.frozen(settings, kind) is None
    net = Network(configs.tiny(condition=ConditionSpec((kind,))))
    assert net.shapes()["text/encoder/embedding"].shape == (300, 8)


@pytest.mark.parametrize(("cached", "kib"), [(True, 128), (False, 0.25)])
def test_a_million_captions_by_hand(cached, kib):
    plan = planned()
    own = FrozenText("t5", COST, tokens=64, cached=cached)
    plan = dataclasses.replace(plan, price=dataclasses.replace(plan.price, text=own))
    assert own.bytes_a_caption == 1024 * kib
    assert plan.caption_seconds == pytest.approx(50e9 / (4 * 1e15 * 0.5))
    (where,) = (line for line in text.lines(plan) if "a million different captions" in line)
    assert ("once, in the stage text" in where) is cached
    assert text.as_json(plan)["text"]["bytes_a_caption"] == own.bytes_a_caption


def test_a_learned_vocabulary_is_the_greatest_that_captions_may_need():
    plan = planned()
    assert not any("at most" in line for line in text.lines(plan))
    plan = dataclasses.replace(plan, price=dataclasses.replace(plan.price, vocabulary=512))
    lines = text.lines(plan)
    assert any(line.startswith("at most 1,000,000,000 parameters; ") for line in lines)
    assert any(line.startswith("text encoder learned: 512 token ids, the most ") for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "cached"), [("text512", True), ("gpic256", False)])
def test_the_presets_of_captions_are_planned_before_there_is_any_file_and_fit(
    capsys, preset, cached
):
    assert main.main(["plan", "--preset", preset, "--devices", "64", "--json"]) == 0
    found, stated = json.loads(capsys.readouterr().out), presets.read(preset).evidence
    assert found["parameters"] == stated.parameters
    assert found["gflops"] == pytest.approx(stated.gflops_forward, rel=1e-5)
    assert found["fits"], found["cures"]
    assert found["text"]["cached"] is cached
    assert 0 < found["text"]["caption_seconds"] < 1
