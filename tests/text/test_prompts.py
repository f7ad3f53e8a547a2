"""Prompts become conditions; a negative prompt takes the place of the empty caption."""

import json

import numpy as np
import pytest

import sid2core
from sid2core.conditioning import ConditionError, ConditionSpec, null_tokens
from sid2core.inference.public import SampleError
from sid2core.models import network
from sid2core.models.network import Network
from sid2core.text import folder, prompts
from sid2core.text.frozen import Embed
from sid2core.text.prompts import Prompts
from tests import tiny
from tests.models import configs
from tests.text.encoders import Words

LEARNED = {"vocabulary": 280, "channels": 8, "depth": 1, "heads": 2}
ONE_BLOCK = {key: tuple(value) for key, value in tiny.ONE_BLOCK.items()}
DIFFUSION = json.loads(
    (tiny.ROOT / "tests/models/fixtures/format1/base/config.json").read_text(encoding="utf-8")
)["diffusion"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of classes and captions, with the tokenizer beside its weights."""
    place = tmp_path_factory.mktemp("model")
    settings = tiny.params(text={"max_tokens": 8, "encoder": {"learned": LEARNED}}).text
    encoder = folder.fit(settings, ["a red one", "a blue one"], place / "encoder")
    empty = prompts.text_of(encoder, None, [""])
    kind = prompts.kind_of(encoder, np.asarray(empty.tokens[0][empty.mask[0]]))
    spec = ConditionSpec.of_classes(2, ("cat", "dog")).with_text(kind)
    net = Network(configs.tiny(condition=spec, head_size=4, **ONE_BLOCK))
    network.save(place, net, configs.weights(net), {"diffusion": DIFFUSION})
    prompts.copy(place / "encoder", place)
    return sid2core.load_model(place)


def test_prompts_are_conditions_beside_the_null_of_other_kinds(model):
    condition = model.trained.prompts().conditions_of(["a red one", ""], model.condition)
    assert condition.label.tolist() == [2, 2]
    assert condition.text.mask.sum(1).tolist()[1] == 1
    null = model.condition.null(1).text
    assert (condition.text.tokens[1] == np.asarray(null.tokens)[0]).all()
    assert (condition.text.tokens[0] != condition.text.tokens[1]).any()


def test_prompts_that_are_cut_are_mentioned_once(model, caplog):
    prompts, longer = model.trained.prompts(), ["zzzzzzz", "zzzzzzzz"]  # with a space before them
    fits = prompts.text(["zzzzzz", ""])
    assert fits.mask.sum(1).tolist() == [8, 1]
    assert not caplog.text
    assert (prompts.text([*longer, *longer]).tokens == fits.tokens[:1]).all()
    assert "2 prompts are cut after 7 tokens (text.max_tokens): zzzzzzz, zzzzzzzz" in caplog.text


def test_images_are_drawn_for_prompts(model):
    options = {"steps": 1, "seed": 1, "guidance": 2.0}
    red, blue = (model.sample(2, prompt=one, **options) for one in ("a red one", "a blue one"))
    assert red.shape == (2, 8, 8, 3)
    assert (red != blue).any()
    both = model.sample(2, prompt=["a red one", "a blue one"], **options)
    assert (both == np.stack([red[0], blue[1]])).all()
    assert (model.sample(2, prompt="a red one", label="dog", **options) != red).any()
    against = model.sample(2, prompt="a red one", negative="a blue one", **options)
    assert (against != red).any()
    assert (model.sample(2, prompt="a red one", negative="", **options) == red).all()


def test_a_negative_prompt_takes_the_place_of_the_empty_caption(model):
    negative = model.trained.with_negative("a blue one")
    made = model.trained.prompts().text(["a blue one"])
    expected = made.tokens[0][made.mask[0]]
    assert (null_tokens(negative.condition.text) == expected).all()
    assert negative.condition.names == model.condition.names
    assert model.trained.with_negative(None) is model.trained


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ConditionError, "prompt: missing; the model takes text"),
        ({"prompt": ["a", "b", "c"]}, ConditionError, "prompt: found 3 for 2 images"),
        ({"prompt": "a", "negative": "b"}, SampleError, "negative: .*give `guidance` too"),
    ],
)
def test_what_the_model_cannot_do_is_refused(model, arguments, error, message):
    with pytest.raises(error, match=message):
        model.sample(2, **arguments)


def test_a_frozen_encoder_gives_vectors():
    encoder, embed = Words(), Embed(Words())
    made = prompts.text_of(encoder, embed, ["one two", ""])
    kind = prompts.kind_of(encoder, np.asarray(made.tokens[1][made.mask[1]]))
    assert not kind.learned
    assert made.tokens.shape == (2, 6, 4)
    found = Prompts(kind, encoder, embed).null("one two")
    assert (null_tokens(found) == made.tokens[0][made.mask[0]]).all()
