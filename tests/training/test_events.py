import json
import struct

import numpy as np
import pytest
from PIL import Image

from sid2core import checksums
from sid2core.training import events
from sid2core.training.log import Log

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The work folder of a training with one sample."""
    monkeypatch.setenv("SID2_WORK", str(tmp_path))
    folder = tmp_path / "train" / "0123"
    (folder / "samples").mkdir(parents=True)
    params = {"seed": 3, "train": {"optimiser": {"name": "adam"}, "emas": None}}
    checksums.write_json(folder / "made_for.json", {"params": params})
    picture(folder, 4)
    return folder


def picture(folder, step):
    path = folder / "samples" / f"{step}.png"
    Image.fromarray(np.full((4, 6), step, np.uint8)).save(path)
    checksums.seal(path)


def written(work):
    """All values of the one event file of a training: (step, value)."""
    (path,) = (work.parents[1] / "tensorboard" / "train" / "0123").iterdir()
    content, found = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = event_pb2.Event.FromString(content[12 : 12 + length])
        found += [(event.step, value) for value in event.summary.value]
        content = content[16 + length :]
    return found


def log_of(*losses):
    steps = range(2, 2 * len(losses) + 2, 2)
    rows = [
        {"step": step, "loss": loss, "loss_logsnr_above_5": 0.5}
        for step, loss in zip(steps, losses, strict=True)
    ]
    return Log(rows, [{"step": step, "images_per_second": 10.0} for step in steps])


def scalars(work, name):
    return [(step, one.simple_value) for step, one in written(work) if one.tag == name]


def test_scalars_samples_and_hyperparameters_each_once(work):
    log = log_of(0.5, float("nan"))
    with events.opened(work, log) as write:
        write()
        log.rows += log_of(0, 0, 0.25).rows[2:]
        log.speed += log_of(0, 0, 0.25).speed[2:]
        picture(work, 8)
        write()
        write()
    assert scalars(work, "loss") == [(2, 0.5), (6, 0.25)]
    assert scalars(work, "loss/logsnr_above_5") == [(step, 0.5) for step in (2, 4, 6)]
    assert scalars(work, "speed/images_per_second") == [(step, 10.0) for step in (2, 4, 6)]
    images = [(step, one.image) for step, one in written(work) if one.tag == "samples"]
    assert [(step, image.height, image.width) for step, image in images] == [(4, 4, 6), (8, 4, 6)]
    start = next(one for _, one in written(work) if one.tag.endswith("session_start_info"))
    assert b"train.optimiser.name" in start.metadata.plugin_data.content
    assert json.dumps(None).encode() in start.metadata.plugin_data.content


def test_a_resumed_training_has_the_whole_curve_once(work):
    for log in (log_of(0.5), log_of(0.5, 0.25)):
        with events.opened(work, log):
            pass
    assert scalars(work, "loss") == [(2, 0.5), (4, 0.25)]


def test_a_student_has_the_parameters_of_its_stage(work):
    student = work / "student_2"
    student.mkdir()
    with events.opened(student, log_of(0.5)):
        pass
    (path,) = (work.parents[1] / "tensorboard" / "train" / "0123" / "student_2").iterdir()
    assert b"train.optimiser.name" in path.read_bytes()


def test_nothing_is_written_without_the_extra_or_by_a_second_process(work, monkeypatch):
    with events.opened(work, log_of(0.5), active=False) as write:
        write()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with events.opened(work, log_of(0.5)) as write:
        write()
    assert not (work.parents[1] / "tensorboard").exists()


def test_an_error_of_the_system_stops_no_training(work, caplog):
    (work.parents[1] / "tensorboard").write_text("not a folder")
    with events.opened(work, log_of(0.5)) as write:
        write()
        write()
    assert caplog.text.count("no more event files for TensorBoard") == 1
