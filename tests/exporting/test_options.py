"""The options of drawing programs: conditions as arrays, and pictures without a library."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from sid2core.exporting.files import options


@pytest.fixture
def folder(tmp_path):
    np.savez(tmp_path / "null.npz", labels=np.array([3], np.int32))
    about = {"class_names": ["cat", "dog", "house"]}
    (tmp_path / "export.json").write_text(json.dumps(about), encoding="utf-8")
    return tmp_path


def condition(folder, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["draw.py", *arguments])
    return options.condition(folder, options.parsed("Draws."))


@pytest.mark.parametrize(
    ("arguments", "labels"),
    [
        (("--count", "4"), [0, 1, 2, 0]),
        (("--class", "dog", "--count", "2"), [1, 1]),
        (("--class", "house", "0", "--count", "3"), [2, 0, 2]),
    ],
)
def test_classes_go_in_turn(folder, monkeypatch, arguments, labels):
    assert condition(folder, monkeypatch, *arguments)["labels"].tolist() == labels


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--class", "3"), "--class: found '3'; expected 0 to 2, or a class name"),
        (("--class", "bird"), "found 'bird'"),
        (("--prompt", "a cat"), "--prompt: the model takes labels"),
    ],
)
def test_what_the_model_does_not_take_is_refused(folder, monkeypatch, arguments, message):
    with pytest.raises(SystemExit, match=message):
        condition(folder, monkeypatch, *arguments)


def test_given_frames_are_those_of_every_clip(folder, monkeypatch):
    null = {"given": np.zeros((1, 2, 4, 4, 1), np.uint8), "there": np.zeros(1, bool)}
    np.savez(folder / "null.npz", **null)
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1), np.uint8)
    np.save(folder / "given.npy", frames)
    arguments = ("--given", str(folder / "given.npy"), "--count", "2")
    found = condition(folder, monkeypatch, *arguments)
    assert found["there"].all()
    assert np.array_equal(found["given"], np.stack([frames[:2]] * 2))
    assert not condition(folder, monkeypatch)["there"].any()


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_side_by_side(tmp_path, channels):
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (2, 4, 5, channels), np.uint8)
    options.save(tmp_path / "x.png", images / 127.5 - 1.0, {})
    found = np.asarray(Image.open(tmp_path / "x.png")).reshape(4, 10, channels)
    assert np.array_equal(found, np.concatenate(list(images), axis=1))
    options.save(tmp_path / "x.npy", images / 127.5 - 1.0, {})
    assert np.array_equal(np.load(tmp_path / "x.npy"), images)


def test_a_clip_is_a_row_that_begins_with_its_given_frames(tmp_path):
    given = np.full((2, 1, 3, 3, 1), 9, np.uint8)
    condition = {"given": given, "there": np.ones(2, bool)}
    options.save(tmp_path / "x.png", np.ones((2, 2, 3, 3, 1), np.float32), condition)
    found = np.asarray(Image.open(tmp_path / "x.png"))
    assert np.array_equal(found, np.repeat([[9] * 3 + [255] * 6], 6, axis=0))
