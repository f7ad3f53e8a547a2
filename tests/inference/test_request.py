"""A request says completely what to draw, and draws it."""

import json

import numpy as np
import pytest
from PIL import Image

import sid2core
from sid2core.conditioning import ConditionError, ConditionSpec
from sid2core.inference.public import SampleError
from sid2core.inference.request import Request, RequestError
from tests.inference.drawing import saved
from tests.refusals import refused

GUIDED = {"count": 2, "label": [0], "steps": 3, "guidance": 1.5}
"""Drawings of equal shape share compiled programs."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    spec = ConditionSpec.of_classes(3, ("cat", "dog", "house"))
    return sid2core.load_model(saved(tmp_path_factory.mktemp("base"), spec))


def test_json_keeps_a_request():
    request = Request.of(
        count=2, label=["cat", 1], guidance=1.0, interval=(-1.0, 2.0), sampler={"name": "ddim"}
    )
    assert Request.from_json(request.to_json()) == request
    assert Request.from_json("{}") == Request()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "found list"),
        ('{"cuont": 1}', "cuont: unknown key; the nearest known one is count"),
        ('{"count": "1"}', "count: found"),
        ('{"steps": 0}', "steps: found 0"),
        ('{"count": 2, "label": [1, 2, 3]}', "label: found 3 for 2 examples"),
        ('{"guidance": 1, "interval": [2, 1]}', "interval: found"),
        ('{"negative": "x"}', "negative: found a value, but there is no guidance"),
        ('{"mask": "m.png"}', "mask: found a value, but no `init`"),
        ('{"sampler": {"name": "heum"}}', "the nearest is heun"),
    ],
)
def test_what_a_request_cannot_say_is_refused(text, words):
    with refused(RequestError, "request", words):
        Request.from_json(text)


def test_a_request_draws_what_sample_draws(model):
    request = Request.of(**{**GUIDED, "label": ["dog"]}, seed=2)
    expected = model.sample(2, label="dog", steps=3, guidance=1.5, seed=2)
    np.testing.assert_array_equal(model.draw(request), expected)
    full = model.completed(request)
    assert full.label == [1]
    assert json.loads(full.to_json())["sampler"] == {
        "name": "ddpm",
        "ddpm": {"logvar_fraction": 0.3},
    }
    assert model.completed(full) == full


def test_each_prediction_is_shown_and_the_last_is_the_image(model):
    seen = []
    request = Request.of(**GUIDED)
    images = model.draw(request, lambda *step: seen.append(step))
    assert [one[:2] for one in seen] == [(1, 3), (2, 3), (3, 3)]
    last = np.clip(np.round(127.5 * np.asarray(seen[-1][2]) + 127.5), 0, 255)
    np.testing.assert_array_equal(last, images)
    at_once = model.draw(request)
    assert np.abs(at_once.astype(int) - images).max() <= 1


def test_an_error_of_on_step_ends_the_drawing(model):
    def cancel(step, steps, x_hat):
        raise InterruptedError(step)

    with pytest.raises(InterruptedError, match="1"):
        model.draw(Request.of(**GUIDED), cancel)


def test_what_the_model_cannot_draw_is_refused(model, tmp_path):
    with refused(ConditionError, "label", "'house'"):
        model.draw(Request.of(label=["hose"]))
    with refused(RequestError, "weights", "has changed"):
        model.draw(Request.of(weights="0" * 64))
    with refused(RequestError, "ema", "power 0.1"):
        model.draw(Request.of(ema="best"))
    with refused(RequestError, "init", "does not exist"):
        model.draw(Request.of(init=str(tmp_path / "no.png")))
    student = sid2core.load_model(saved(tmp_path, ConditionSpec.of_classes(3), student_steps=2))
    assert student.completed(Request()).steps == 2
    with refused(SampleError, "guidance"):
        student.draw(Request.of(guidance=1.0))


def test_known_pixels_are_kept_and_the_start_is_the_picture(model, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "init.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[:, :4] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    init, cut = str(tmp_path / "init.png"), str(tmp_path / "mask.png")
    drawn = model.draw(Request.of(**GUIDED, init=init, mask=cut, repeats=2))
    np.testing.assert_array_equal(drawn[0][:, 4:], picture[:, 4:])
    assert (drawn[0][:, :4] != picture[:, :4]).any()
    near, far = (model.draw(Request.of(**GUIDED, init=init, strength=one)) for one in (0.01, 1.0))
    distances = [np.abs(one[0].astype(int) - picture).mean() for one in (near, far)]
    assert distances[0] < distances[1]
