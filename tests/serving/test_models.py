import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("starlette")

import sid2core
from sid2core.conditioning import ConditionError, ConditionSpec
from sid2core.diffusion.guidance import IntervalGuidance
from sid2core.inference import stepwise
from sid2core.inference.negatives import WorseModel
from sid2core.serving import models, pictures
from sid2core.serving.asked import AskedError, Limits, parse
from sid2core.serving.models import Served
from tests.inference import continuing
from tests.inference.test_public import saved
from tests.refusals import refused

LIMITS = Limits(count=64, steps=256, pixels=5000)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    spec = ConditionSpec.of_classes(3, ("cat", "dog", "house"))
    return Served(sid2core.load_model(saved(tmp_path_factory.mktemp("base"), spec)), LIMITS)


def continues(folder, **extra):
    """A small model of clips, with two clips to continue."""
    frames = np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4, 1)
    clips = dict(zip(("walk.gif", "eval clip 1"), frames, strict=True))
    return Served(sid2core.load_model(continuing.saved(folder, **extra)), LIMITS, clips)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return continues(tmp_path_factory.mktemp("student"), student_steps=1)


def drawn(monkeypatch, served, **asked):
    """All estimates of a drawing, and the states that were published."""
    seen, states, sheet = [], [], pictures.sheet

    def kept(images, *rest, **settings):
        seen.append(images)
        return sheet(images, *rest, **settings)

    monkeypatch.setattr(pictures, "sheet", kept)
    monkeypatch.setattr(models, "Pace", lambda: type("Always", (), {"due": lambda self: True})())
    states.append(served.work(asked)(states.append))
    return seen, states


@pytest.mark.slow
def test_the_images_are_those_of_the_library_and_each_step_is_seen(base, monkeypatch):
    asked = {"count": 3, "seed": 5, "label": "dog", "steps": 4}
    guided = {"guidance": 1.5, "interval": [-3.0, 3.0]}
    seen, states = drawn(monkeypatch, base, **asked, **guided)
    guidance = IntervalGuidance(1.5, -3.0, 3.0)
    expected = base.model.sample(**asked, guidance=guidance).astype(int)
    assert np.abs(seen[-1] - expected).max() <= 1
    assert [state.get("step") for state in states] == [1, 2, 3, 4, None]
    assert all("image" in state for state in states)
    assert (seen[0] != seen[-1]).any()


@pytest.mark.slow
@pytest.mark.parametrize("sampler", models.samplers())
def test_every_sampler_draws_the_same_as_the_library(base, monkeypatch, sampler):
    asked = {"count": 2, "steps": 5, "sampler": sampler}
    seen, _ = drawn(monkeypatch, base, **asked)
    assert np.abs(seen[-1] - base.model.sample(**asked).astype(int)).max() <= 1


@pytest.mark.slow
def test_autoguidance_draws_what_the_library_draws(tmp_path, monkeypatch):
    plain, folder = continues(tmp_path / "good"), continuing.saved(tmp_path / "worse", seed=1)
    other = sid2core.load_model(folder).trained
    served = replace(plain, worse=WorseModel(other.denoiser, other.params))
    asked = {"count": 2, "seed": 5, "steps": 4, "guidance": 1.5, "interval": [-3.0, 3.0]}
    found = drawn(monkeypatch, served, **asked, label=1, autoguidance=True)[0][-1]
    without = drawn(monkeypatch, served, **asked, label=1)[0][-1]
    np.save(tmp_path / "given.npy", served.clips["walk.gif"])
    same = asked | {"interval": (-3.0, 3.0), "label": [1], "given": str(tmp_path / "given.npy")}
    request = sid2core.Request.of(**same, negative_model=str(folder))
    expected = served.model.draw(request).astype(int)
    assert np.abs(found - expected).max() <= 1
    assert np.abs(without - expected).max() > 1


@pytest.mark.slow
def test_other_steps_seeds_and_weights_compile_nothing(tmp_path):
    served = continues(tmp_path)

    def run(**asked):
        served.work({"count": 3, "label": 1, "guidance": 1.5, "interval": [-3.0, 3.0]} | asked)(
            lambda state: None
        )

    run(steps=4)
    programs = stepwise._advance._cache_size()
    run(steps=7, seed=9, guidance=0.5, interval=[-2.0, 4.0], count=4, label=None)
    assert stepwise._advance._cache_size() == programs


def test_a_clip_begins_with_the_chosen_frames(clips, monkeypatch):
    seen, _ = drawn(monkeypatch, clips, count=3, given=1, label=1)
    assert seen[-1].shape == (3, 3, 4, 4, 1)
    assert (seen[-1][:, :1] == clips.clips["eval clip 1"]).all()


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"count": 65}, "count: found 65; this server draws at most 64"),
        ({"count": 10**30}, "count"),
        ({"count": -1}, "count: found -1"),
        ({"count": True}, "count: found True"),
        ({"count": "1"}, "count"),
        ({"count": 60}, "count: found 60; of this size the server draws at most 50"),
        ({"steps": 0}, "steps: found 0"),
        ({"steps": -3}, "steps: found -3"),
        ({"steps": 257}, "steps: found 257"),
        ({"seed": -1}, "seed: found -1"),
        ({"guidance": -0.5}, "guidance"),
        ({"guidance": float("inf")}, "guidance"),
        ({"interval": [3.0, -3.0]}, "interval"),
        ({"interval": [0.0]}, "interval"),
        ({"prompt": "x" * 2001}, "prompt"),
        ({"folder": "/etc"}, "folder: unknown key"),
        ({"\ud800": 1}, "expected a section"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"label": "\ud800"}, "label"),
        ({"k" * 60_000: 1}, "unknown key"),
        ({str(number): 1 for number in range(8000)}, "body: found 8000 settings"),
        ({"sampler": {"name": "ddpm"}}, "sampler"),
    ],
)
def test_values_out_of_range_are_refused_in_one_sentence(asked, named):
    with refused(AskedError, named) as error:
        parse(asked, LIMITS, (10, 10, 3))
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 300
    assert text.endswith(".")


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"label": "doge"}, "'dog'"),
        ({"label": 3}, "expected 0 to 2"),
        ({"prompt": "a dog"}, "prompt: the model takes none"),
        ({"sampler": "../ddpm"}, "sampler: found '../ddpm'; expected one of ddpm"),
        ({"interval": [-3.0, 3.0]}, "interval: it has an effect with guidance only"),
    ],
)
def test_what_a_model_cannot_draw_is_refused_before(base, asked, named):
    with refused((AskedError, ConditionError), named):
        base.work(asked)


def test_autoguidance_needs_a_worse_model_and_a_weight(base):
    asked = {"guidance": 1.0, "autoguidance": True}
    with refused(AskedError, "autoguidance: the server has no worse model"):
        base.work(asked)
    trained = base.model.trained
    served = replace(base, worse=WorseModel(trained.denoiser, trained.params))
    assert served.about()["autoguidance"]
    with refused(AskedError, "autoguidance: it has an effect with guidance only"):
        served.work({"autoguidance": True})


@pytest.mark.parametrize("asked", [{"guidance": 1.0}, {"steps": 2}, {"sampler": "ddim"}])
def test_a_student_has_its_own_settings(clips, asked):
    with refused(AskedError, next(iter(asked)), "a student of 1 steps has its own"):
        clips.work(asked)
    with refused(AskedError, "given: found 2; expected 0 to 1"):
        clips.work({"given": 2})


def test_a_model_that_continues_clips_needs_some(clips):
    with refused(AskedError, "give --given"):
        Served(clips.model)


def test_what_the_page_must_know(base, clips):
    assert json.loads(json.dumps(base.about())) == {
        "summary": "base, 8 × 8",
        "classes": ["cat", "dog", "house"],
        "student": None,
        "text": False,
        "given": [],
        "autoguidance": False,
    }
    assert clips.about()["summary"] == "student of 1 step, 4 × 4, 2 frames"
    assert clips.about()["classes"] == ["0", "1"]
    assert clips.about()["given"] == ["walk.gif", "eval clip 1"]


def test_all_images_are_in_one_picture():
    images = np.zeros((5, 8, 8, 3), np.uint8)
    assert pictures.sheet(images)["image"].startswith("data:image/png;base64,")
    clips = np.zeros((2, 3, 8, 8, 1), np.uint8)
    assert pictures.sheet(clips, 1)["image"].startswith("data:image/webp;base64,")
    assert pictures.sheet(clips, 1, moving=False)["image"].startswith("data:image/png;base64,")
