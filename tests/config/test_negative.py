"""The parameters by which ``train_negative`` trains."""

import pytest

from sid2core.config import ParamsError, negative
from tests import tiny
from tests.refusals import refused


def changed(train_negative, **sections):
    return negative.params_of(tiny.params(train_negative=train_negative, **sections))


def test_what_is_null_is_that_of_the_base_model():
    base = tiny.params()
    found = changed({"steps": 5})
    assert found.model == base.model
    assert found.train == base.train.model_copy(update={"steps": 5})


def test_changes_are_of_the_negative_alone():
    model = {"channels": [8, 8], "mid_depth": 2, "dropout": [0.0, 0.5]}
    found = changed({"steps": 5, "batch_size": 4, "ema_decay": 0.5, "model": model})
    assert (found.train.steps, found.train.batch_size, found.train.ema_decay) == (5, 4, 0.5)
    assert {name: getattr(found.model, name) for name in model} == model
    assert found.model.blocks == tiny.params().model.blocks


def test_the_size_of_heads_takes_the_place_of_their_number():
    base = {"heads": 2, "head_size": None}
    assert changed({"steps": 5}, model=base).model.heads == 2
    found = changed({"steps": 5, "model": {"head_size": 4}}, model=base).model
    assert (found.heads, found.head_size) == (None, 4)


def test_averages_and_the_beginning_are_of_the_base_model_alone():
    kept = {
        "snapshots": [10],
        "emas": [{"kind": "power", "value": 0.1}],
        "init_from": "earlier",
        "freeze": ["encoder/*"],
    }
    found = changed({"steps": 5}, train=kept).train
    assert {getattr(found, name) for name in kept} == {None}


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"model": {"channels": [8]}}, "train_negative.model", "blocks has 2 entries"),
        ({"model": {"channels": [8, 12]}}, "train_negative.model", "must divide 12 channels"),
        ({"batch_size": 5}, "train_negative", "accumulation 2 must divide batch_size 5"),
    ],
)
def test_changes_that_do_not_fit_are_refused_by_key(changes, key, words):
    with refused(ParamsError, f"{key}: ", words):
        changed({"steps": 5, **changes}, train={"accumulation": 2})
