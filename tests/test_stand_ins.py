"""A Git LFS pointer or a web page where weights should be: each reader names it and the cure."""

import numpy as np
import pytest

import sid2core
from sid2core import stand_ins
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import clip, dinov2, i3d, inception
from sid2core.metrics.statistics import Moments
from sid2core.models.fit import WeightsError
from sid2core.text import t5_files, t5_tokenizer
from sid2core.text.errors import TextError
from tests.metrics.networks import tiny_clip
from tests.refusals import refused
from tests.text import tiny_t5

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
PAGE = b"\n<!DOCTYPE html><html><body>Not found"


@pytest.mark.parametrize(
    ("content", "parts"),
    [(POINTER, ("is a Git LFS pointer", "git lfs pull")), (PAGE, ("a saved web page", "download"))],
)
def test_every_reader_of_weights_names_them(tmp_path, content, parts):
    path = tmp_path / "weights"
    path.write_bytes(content)
    for load in (inception.load, dinov2.load, i3d.load):
        with refused(MetricsError, path, *parts, "SHA-256"):
            load(path)
    with refused(MetricsError, path, *parts):
        inception.load(path, verify=False)
    with refused(MetricsError, path, *parts):
        Moments.load(path)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes(content)
        with refused(WeightsError, tmp_path / name, *parts):
            sid2core.load_model(tmp_path)
        (tmp_path / name).write_text('{"format": 1}')


@pytest.mark.parametrize("name", ["config.json", "spiece.model", "model.safetensors"])
def test_each_file_of_a_t5_may_be_one(tmp_path, name):
    (tiny_t5.write(tmp_path) / name).write_bytes(POINTER)
    with refused(TextError, tmp_path / name, "is a Git LFS pointer", "git lfs pull"):
        found = t5_files.find(tmp_path)
        t5_tokenizer.read(found.path / found.tokenizer, found.config.vocabulary)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_each_file_of_a_clip_may_be_one(tmp_path, name):
    shapes = {"w": np.zeros(1).shape}
    (tiny_clip.write(tmp_path / "clip", shapes) / name).write_bytes(POINTER)
    with refused(MetricsError, tmp_path / "clip" / name, "is a Git LFS pointer", "openai/clip"):
        clip.load(tmp_path / "clip")


def test_data_and_captions_are_none():
    assert stand_ins.recognised(b"\x89PNG") is None
    assert stand_ins.recognised(b"a <html> page on a screen") is None
    assert not stand_ins.is_pointer(PAGE)
