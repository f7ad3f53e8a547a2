"""Distillation as a user runs it: as a process, which may be killed at any moment."""

import shutil
import signal

import pytest

from tests import tiny
from tests.processes import checkpoints, finish, signalled, start

ITERATIONS = 120


@pytest.mark.slow
@pytest.mark.parametrize("options", tiny.DISTILLATIONS.values(), ids=tiny.DISTILLATIONS)
def test_killed_and_stopped_it_goes_on_and_ends_with_the_same_bytes(
    project, tmp_path, compiled, options
):
    # Checkpoints fall between rows of the log.
    rhythm = {"log_every": 7, "checkpoint_every": 4}
    tiny.write(project, distill={"iterations": ITERATIONS} | options, runtime=rhythm)
    for place in ("artifacts", "reports"):
        shutil.rmtree(project / place / "distill")
    calm = tmp_path / "calm"
    shutil.copytree(project, calm)
    finish(start("distill", calm, compiled))
    before = 0
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        code, log = signalled("distill", project, compiled, before + 8, number)
        newest = checkpoints(project, "distill")[-1]
        assert before < newest < ITERATIONS
        assert code == (-number if number == signal.SIGKILL else 1), log
        assert not (project / "artifacts" / "distill").exists()
        before = newest
    (log,) = finish(start("distill", project, compiled))
    assert f"student_2 resumes from step {newest} of {ITERATIONS}" in log
    found, expected = (tiny.snapshot(folder, "distill") for folder in (project, calm))
    assert found == expected
    assert "artifacts/distill/student_2/model.safetensors" in found
