"""Folders of other models that the search or the evaluation names."""

import json

import pytest

from sid2core.config import ParamsError, checks
from tests import tiny
from tests.refusals import refused


def model(folder, shape):
    folder.mkdir()
    (folder / "model.safetensors").touch()
    (folder / "config.json").write_text(json.dumps({"network": {"image_shape": shape}}))
    return str(folder)


def sections(place, folder):
    """Parameters that name the folder in one of three places, and the key."""
    entry = {"name": "few", "sampler": "ddim", "nfe": 4}
    guidance = {"weight": 1.0, "negative": folder}
    return {
        "search": ({"guidance_search": {"negatives": [folder]}}, "guidance_search.negatives.0"),
        "weights": (
            {"eval": {"samplers": [entry | {"weights": folder}]}},
            "eval.samplers.0.weights",
        ),
        "negative": (
            {"eval": {"samplers": [entry | {"guidance": [guidance]}]}},
            "eval.samplers.0.guidance.0.negative",
        ),
    }[place]


@pytest.mark.parametrize("place", ["search", "weights", "negative"])
def test_a_folder_without_a_model_of_such_images_is_refused_before_the_training(tmp_path, place):
    for folder, words in (
        (str(tmp_path / "absent"), "which is no folder; expected that of a model"),
        (str(tmp_path), "which has no config.json; expected a copy of a folder that train wrote"),
        (model(tmp_path / "other", [16, 16, 3]), "a model of 16 × 16 × 3; expected 8 × 8 × 1"),
    ):
        changes, key = sections(place, folder)
        with refused(ParamsError, f"{key}: found {folder!r}", words):
            checks.check(tiny.params(**changes))
    changes, _ = sections(place, model(tmp_path / "worse", [8, 8, 1]))
    checks.check(tiny.params(**changes))


def test_a_damaged_configuration_is_named(tmp_path):
    folder = model(tmp_path / "worse", [8, 8, 1])
    path = tmp_path / "worse" / "config.json"
    path.write_text("{")
    changes, key = sections("search", folder)
    with refused(ParamsError, f"{key}: {path} cannot be read", "copy the folder again"):
        checks.check(tiny.params(**changes))


def test_a_model_that_continues_clips_draws_the_frames_that_are_not_given(tmp_path):
    clips = tiny.source("frames", path="nowhere", frames=5, frame_stride=1, image_size=8)
    data = clips | {"channels": 1, "given_frames": 2}
    changes, _ = sections("search", model(tmp_path / "worse", [3, 8, 8, 1]))
    checks.check(tiny.params(data=data, **changes))
