"""Small models of each kind of condition, as exports see them."""

import json

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from sid2core.conditioning import ConditionSpec
from sid2core.exporting.exported import Exported
from sid2core.inference.public import load_model
from sid2core.inference.request import Request
from sid2core.models import network
from sid2core.models.network import Network
from sid2core.text import folder, prompts
from tests import tiny
from tests.inference import continuing
from tests.inference.drawing import saved
from tests.inference.test_public import DIFFUSION
from tests.models import configs

NAMES = ("cat", "dog", "house")
LEARNED = {"vocabulary": 280, "channels": 8, "depth": 1, "heads": 2}
ONE_BLOCK = {key: tuple(value) for key, value in tiny.ONE_BLOCK.items()}
CAPTIONS = ["a red ring", "two blue rings", "a ring on a red ground"]


def exported(folder, **how):
    return Exported.of(load_model(folder), Request.of(model=str(folder), **how))


def of_classes(place):
    return saved(place, ConditionSpec.of_classes(3, NAMES))


def unconditional(place):
    return saved(place, ConditionSpec())


def of_clips(place):
    return continuing.saved(place)


def of_text(place):
    """Of classes and captions, with an encoder that is part of it."""
    settings = tiny.params(text={"max_tokens": 8, "encoder": {"learned": LEARNED}}).text
    encoder = folder.fit(settings, CAPTIONS, place / prompts.FOLDER)
    empty = prompts.text_of(encoder, None, [""])
    kind = prompts.kind_of(encoder, np.asarray(empty.tokens[0][empty.mask[0]]))
    spec = ConditionSpec.of_classes(3, NAMES).with_text(kind)
    net = Network(configs.tiny(condition=spec, head_size=4, **ONE_BLOCK))
    network.save(place, net, configs.weights(net), {"diffusion": DIFFUSION})
    return place


def of_frozen_text(place):
    """Of the vectors of a T5, whose weights are the user's; its words are a, red and ring."""
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "red": 4, "ring": 5}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    (place / prompts.FOLDER).mkdir(parents=True)
    tokenizer.save(str(place / prompts.FOLDER / "tokenizer.json"))
    described = json.dumps({"encoder": {"name": "t5"}})
    (place / prompts.FOLDER / "encoder.json").write_text(described, "utf-8")
    return saved(place, ConditionSpec().with_text(configs.text_kind()))
