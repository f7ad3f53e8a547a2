"""Exports: written only if they give what the model gives; read back byte for byte."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from ruamel.yaml import YAML
from safetensors.numpy import load_file, save_file

from sid2core.cli import main
from sid2core.exporting import cases, folder, formats, importing
from sid2core.exporting.exported import ExportError
from sid2core.exporting.formats import FILES
from sid2core.models.fit import WeightsError
from tests.exporting import models

PROGRAM = """
import importlib.util
import numpy as np

class Program:
    def __init__(self, folder):
        assert importlib.util.find_spec("jax") is None
        self.stored = np.load(folder / "stored.npz")
    def network(self, z, **_):
        return self.stored["network"]
    def draw(self, noise, **_):
        return self.stored["draw"]

load = Program
"""


class Stored:
    """A format that only stores what the check asks for, off by a share of the maximum."""

    SUMMARY, LIBRARY, PACKAGES, ABSENT = "what is asked for", "none", (), ("jax", "sid2core")
    FREE = True

    def __init__(self, place, error=0.0):
        self.error, self.PROGRAM = error, place / "program.py"
        self.PROGRAM.write_text(PROGRAM, "utf-8")

    def use(self, exported):
        return "Not at all."

    def write(self, exported, place):
        inputs = cases.drawing_inputs(exported, free=True)
        drawn = np.array(cases.drawing(exported, inputs))
        drawn[0] += self.error * np.abs(drawn).max()
        output = cases.network_output(exported, cases.network_inputs(exported))
        np.savez(place / "stored.npz", network=output, draw=drawn)

    def read(self, place, shapes):
        raise AssertionError("to write and check an export reads no weights back")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return models.exported(models.of_classes(tmp_path_factory.mktemp("model")), guidance=0.5)


def stored(monkeypatch, place, error):
    form = Stored(place, error)
    monkeypatch.setattr(formats, "of_name", lambda name, **_: form)


def test_an_export_is_there_when_it_gives_the_same_and_replaces_an_earlier_one(
    exported, tmp_path, monkeypatch
):
    stored(monkeypatch, tmp_path, 5e-5)
    target = tmp_path / "out"
    target.mkdir()
    (target / folder.FILE).write_text("{}", "utf-8")
    (target / "old").touch()
    differences = dict(folder.write(exported, "torch", target, "apache-2.0"))
    assert differences["network"] == 0.0
    assert 4e-5 < differences["draw"] < 6e-5
    assert {one.name for one in target.iterdir()} == {folder.FILE, "README.md", "stored.npz"}
    _, front, text = (target / "README.md").read_text("utf-8").split("---\n", 2)
    front = YAML(typ="safe").load(front)
    assert front["license"] == "apache-2.0"
    assert front["pipeline_tag"] == "unconditional-image-generation"
    assert "cat, dog, house" in text


def test_an_export_that_differs_is_not_there(exported, tmp_path, monkeypatch):
    stored(monkeypatch, tmp_path, 2e-4)
    with pytest.raises(ExportError, match=r"network 0.0e\+00, draw 2.0e-04 of the maximum"):
        folder.write(exported, "torch", tmp_path / "out")
    assert [one.name for one in tmp_path.iterdir()] == ["program.py"]


def test_another_folder_is_not_replaced(exported, tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(ExportError, match="exists and is no export"):
        folder.write(exported, "torch", tmp_path)


def test_the_process_of_the_check_refuses_what_an_export_must_not_need(tmp_path):
    (tmp_path / "program.py").write_text("import sid2core\n", "utf-8")
    command = [sys.executable, "-I", FILES / "check.py", "program.py", ".", "a", "b", "sid2core"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.endswith("No module named 'sid2core'\n")


def written(exported, place, name="torch"):
    """The files of an export, without its check."""
    place.mkdir(parents=True)
    form = formats.of_name(name)
    (place / folder.FILE).write_text(json.dumps(folder.described(exported, name)), "utf-8")
    if exported.trained.condition.text is not None:
        shutil.copytree(exported.trained.folder / "text", place / folder.TOKENIZER)
    form.write(exported, place)
    return place


@pytest.mark.parametrize("made", [models.of_classes, models.of_text, models.of_clips])
def test_weights_come_back_byte_for_byte(made, tmp_path):
    model = made(tmp_path / "model")
    written(models.exported(model), tmp_path / "out")
    assert main.main(["import", str(tmp_path / "out"), "--to", str(tmp_path / "back")]) == 0
    files, back = (
        {one.relative_to(place): one.read_bytes() for one in place.rglob("*") if one.is_file()}
        for place in (model, tmp_path / "back")
    )
    assert back == files


def test_weights_of_another_network_are_refused_with_the_first_difference(exported, tmp_path):
    place = written(exported, tmp_path / "out")
    path = place / "unet/diffusion_pytorch_model.safetensors"
    arrays = load_file(path)
    name = "conditioning.classes.weight"
    rows, columns = arrays[name].shape
    save_file(arrays | {name: np.zeros((rows + 1, columns), np.float32)}, path)
    msg = rf"has {name} of shape \({rows + 1}, {columns}\), expected \({rows}, {columns}\)"
    with pytest.raises(WeightsError, match=msg):
        importing.write(place, tmp_path / "back")
    assert not (tmp_path / "back").exists()
