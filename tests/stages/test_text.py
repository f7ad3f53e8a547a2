"""The stage text by its command, and captioned data in training: kills, devices, processes."""

import json
import shutil
import signal
import time

import numpy as np
import pytest

from sid2core import config
from sid2core.data.load.dataset import Dataset
from sid2core.models import network
from sid2core.pipeline import artifact
from stages import prepare, text
from tests import captioned, processes, tiny
from tests.processes import finish, start
from tests.text import tiny_t5

SPLITS = ("train", "eval")


def test_without_captions_nothing_is_encoded(project):
    made = artifact.load("text")
    assert made.metadata == {"text": None}
    assert not made.manifest["files"]
    assert made.manifest["params"] == {}, "what is not used does not change the manifest"
    dataset = Dataset.open(artifact.load("prepare"), "train", text=made)
    assert dataset.condition.names == ("label",)


def test_each_row_has_the_tokens_of_its_caption(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(captioned.write(tmp_path))
    prepare.main(config.read())
    text.main(config.read())
    made = artifact.load("text")
    assert made.metadata["text"]["distinct"] == 1 + 60 + 4
    assert made.metadata["text"]["stored"] == "int32"
    assert "of 65 distinct captions have text.max_tokens = 12 tokens or more" in caplog.text
    for split in SPLITS:
        data = Dataset.open(artifact.load("prepare"), split, text=made)
        assert data.condition.names == ("text",)
        rows = np.arange(len(data))
        numbers = data.texts.numbers(rows, np.zeros(len(rows), np.uint64))
        assert data.texts.strings(numbers) == [one[0] for one in data.captions]
    before = made.digest
    text.main(config.read())
    assert artifact.load("text").digest == before


def run(folder, compiled, *stages):
    for stage in stages:
        finish(start(stage, folder, compiled))


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return tiny_t5.write(tmp_path_factory.mktemp("t5"))


@pytest.mark.slow
def test_killed_while_it_encodes_it_ends_with_the_same_bytes(tmp_path, compiled, t5):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    calm.mkdir()
    captioned.write(calm, count=4000, text=captioned.t5(t5))
    run(calm, compiled, "prepare")
    shutil.copytree(calm, killed)
    run(calm, compiled, "text")
    for count in (1, 2):
        with start("text", killed, compiled) as process:
            deadline = time.monotonic() + processes.PATIENCE
            while len(list(killed.glob(".sid2/text/*/chunks/starts-*.sha256"))) < count:
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
        assert not (killed / "artifacts/text").exists()
    run(killed, compiled, "text")
    assert tiny.snapshot(killed, "text") == tiny.snapshot(calm, "text")


@pytest.mark.slow
def test_two_processes_and_eight_devices_encode_as_one(tmp_path, compiled, t5):
    alone = tmp_path / "alone"
    alone.mkdir()
    mesh = {"mesh": {"data": -1, "fsdp": 1}}
    captioned.write(alone, count=2500, text=captioned.t5(t5), runtime=mesh)
    run(alone, compiled, "prepare")
    for name, starting in (("two", processes.start_two), ("eight", start)):
        shutil.copytree(alone, tmp_path / name)
        given = [8] if name == "eight" else []
        running = starting("text", tmp_path / name, compiled, *given)
        finish(*(running if isinstance(running, list) else [running]))
    run(alone, compiled, "text")
    files = tiny.snapshot(alone, "text")
    assert tiny.snapshot(tmp_path / "two", "text") == files
    eight = tmp_path / "eight"
    for name in files:
        if "values" in name:
            pair = (np.load(root / name).view(np.uint16) for root in (alone, eight))
            one, other = (values.astype(np.int64) for values in pair)
            assert np.abs(one - other).max() <= 1, "the last bit of a bfloat16"


def trained(folder):
    _, weights, _ = network.load(folder / "artifacts/train")
    return np.concatenate([np.ravel(weights[name]) for name in sorted(weights)]).astype(float)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["learned", "t5", "t5, not stored"])
def test_captions_train_as_one_after_kills_on_devices_and_in_processes(
    tmp_path, compiled, t5, encoder
):
    section = captioned.text() if encoder == "learned" else captioned.t5(t5, encoder == "t5")
    every = {"log_every": 5, "checkpoint_every": 5}
    alone = tmp_path / "alone"
    alone.mkdir()
    captioned.write(alone, text=section, runtime=every)
    run(alone, compiled, "prepare", "text")
    folders = {name: tmp_path / name for name in ("killed", "two", "eight")}
    for name, folder in folders.items():
        shutil.copytree(alone, folder)
        mesh = {} if name == "killed" else {"mesh": {"data": 1, "fsdp": -1}}
        captioned.write(folder, text=section, runtime=every | mesh)
    run(alone, compiled, "train")
    code, log = processes.signalled("train", folders["killed"], compiled, 10, signal.SIGKILL)
    assert code == -signal.SIGKILL, log
    run(folders["killed"], compiled, "train")
    assert tiny.snapshot(folders["killed"], "train") == tiny.snapshot(alone, "train")
    finish(*processes.start_two("train", folders["two"], compiled))
    finish(start("train", folders["eight"], compiled, 8))
    expected = trained(alone)
    for name in ("two", "eight"):
        difference = np.linalg.norm(trained(folders[name]) - expected)
        assert difference < 1e-5 * np.linalg.norm(expected), name
    kept = alone / "artifacts/train/text"
    assert (kept / "encoder.json").is_file()
    written = json.loads((alone / "artifacts/train/config.json").read_text())
    assert written["condition"]["text"]["encoder"] == encoder.split(",")[0]
