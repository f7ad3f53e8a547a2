import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sid2core import config
from sid2core.distillation import trainer
from sid2core.inference.guidance_search import chosen
from sid2core.inference.model import Trained
from sid2core.models import network
from sid2core.pipeline import artifact
from sid2core.training import log
from stages import distill
from tests import tiny
from tests.evaluation.samplers import count_images, stopped_after
from tests.stopping import Stopped


def metrics(folder):
    return json.loads((folder / "reports/distill/metrics.json").read_text())


def test_a_student_is_a_model_of_its_own_with_its_number_of_steps(finished):
    made = artifact.load("distill", root=finished / "artifacts")
    assert made.metadata["students"] == ["student_2"]
    student = Trained.load(made.folder / "student_2")
    teacher = Trained.load(finished / "artifacts" / "train")
    assert (student.config["student_steps"], student.config["student_eta"]) == (2, 1.0)
    auxiliary = Trained.load(made.folder / "student_2", weights="auxiliary.safetensors")
    assert set(auxiliary.params) == set(student.params)
    assert any((auxiliary.params[one] != student.params[one]).any() for one in student.params)
    assert [one.parent.name for one in made.folder.glob("**/config.json")] == ["student_2"]
    assert student.denoiser == teacher.denoiser
    assert student.schedule == teacher.schedule
    changed = [
        name for name in teacher.params if (student.params[name] != teacher.params[name]).any()
    ]
    assert len(changed) > len(teacher.params) / 2
    assert all(np.isfinite(value).all() for value in student.params.values())


@pytest.mark.usefixtures("project")
def test_metrics_set_students_beside_the_guided_teacher():
    found = metrics(Path())
    assert set(found) == {"teacher", "student_2"}
    for one in found.values():
        assert set(one) == {"fd_train_24", "agreement_24", "nfe"}
        assert 0 <= one["agreement_24"] <= 1
        assert one["fd_train_24"] > 0
    assert found["student_2"]["nfe"] == 2
    verdict = json.loads(artifact.load("guidance_search").path("best.json").read_text())
    teacher = Trained.load(artifact.load("train").folder)
    steps = config.read().sampling.steps
    low, high = chosen(verdict).guided.guidance.interval
    levels = teacher.schedule.logsnr_exact(1 - np.arange(steps) / steps)
    assert found["teacher"]["nfe"] == steps + np.sum((low < levels) & (levels < high))


def test_the_curve_says_how_the_losses_went(finished):
    curve = pd.read_csv(finished / "reports/distill/curve.csv")
    assert list(curve["iteration"]) == [5, 10]
    assert {"loss_auxiliary", "loss_student", "grad_norm_student", "student"} < set(curve)
    assert set(curve["student"]) == {"student_2"}
    speed = pd.read_csv(finished / "reports/distill/speed.csv")
    assert set(speed) == {
        "iteration",
        "images_per_second",
        "data_wait_share",
        "peak_memory_mib",
        "student",
    }


def test_stopped_in_training_it_goes_on_and_ends_with_the_same_bytes(project, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    expected = tiny.snapshot(project, "distill")
    means, rows = log.means, []

    def stops(pending):
        # After the row of step 5 comes the one of step 10, with the first checkpoint.
        rows.append(pending)
        if len(rows) == 2:
            raise Stopped
        return means(pending)

    with monkeypatch.context() as patch:
        patch.setattr(log, "means", stops)
        with pytest.raises(Stopped):
            distill.main(tiny.params(runtime={"log_every": 5, "checkpoint_every": 5}))
    assert tiny.snapshot(project, "distill") == expected, "the earlier result stays"
    made = count_images(monkeypatch)
    distill.main(config.read())
    assert "student_2 resumes from step 5 of 10" in caplog.text
    assert made == [24], "of the student; the teacher was scored"
    assert tiny.snapshot(project, "distill") == expected


def test_stopped_in_scoring_it_goes_on_and_ends_with_the_same_bytes(project, monkeypatch, caplog):
    """The teacher has one chunk and a measurement, and so has the student: each is stopped once."""
    caplog.set_level(logging.INFO)
    expected = tiny.snapshot(project, "distill")
    made = count_images(monkeypatch)
    for written in (0, 1, 1, 1):
        assert "student_2 resumes" not in caplog.text
        with stopped_after(monkeypatch, written):
            distill.main(config.read())
        assert tiny.snapshot(project, "distill") == expected, "the earlier result stays"
    assert made == [24] * 4, "each set once for the chunk that was lost, and once again"
    assert "student_2 resumes from step 10 of 10" in caplog.text
    distill.main(config.read())
    assert made == [24] * 4
    assert tiny.snapshot(project, "distill") == expected


def test_stopped_in_writing_it_scores_nothing_again(project, monkeypatch):
    expected = tiny.snapshot(project, "distill")

    def never(*args):
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(network, "save", never)
        with pytest.raises(Stopped):
            distill.main(config.read())
    made = count_images(monkeypatch)
    distill.main(config.read())
    assert made == []
    assert tiny.snapshot(project, "distill") == expected


@pytest.mark.slow
def test_a_student_starts_from_the_one_with_twice_its_steps(project, monkeypatch):
    starts, run_of = {}, trainer.distillation_run

    def seen(settings, form, teacher, loader, seed, layout, start):
        starts[form.states.steps] = start
        return run_of(settings, form, teacher, loader, seed, layout, start)

    monkeypatch.setattr(trainer, "distillation_run", seen)
    tiny.write(project, distill={"steps": [1, 2, 8], "from_student": True, "iterations": 2})
    distill.main(config.read())
    made = artifact.load("distill")
    assert made.metadata["students"] == ["student_1", "student_2", "student_8"]
    assert [*starts] == [8, 2, 1]
    assert starts[8] is starts[2] is None, "there is no student of 16 or 4 steps"
    student = Trained.load(made.folder / "student_2")
    for name, value in student.params.items():
        np.testing.assert_array_equal(starts[1].params[name], value)
    assert set(starts[1].kept) == {"auxiliary"}
