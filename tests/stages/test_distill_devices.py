"""Distillation by two processes, by the real stage command."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests import processes, tiny


@pytest.mark.slow
@pytest.mark.parametrize("options", tiny.DISTILLATIONS.values(), ids=tiny.DISTILLATIONS)
def test_two_processes_distil_as_one(project, tmp_path, options):
    """With the state divided, in parts; both score, one writes."""
    found = []
    for name, mesh, start in (
        ("one", {"data": 1, "fsdp": 1}, lambda *where: [processes.start(*where)]),
        ("two", {"data": 1, "fsdp": -1}, processes.start_two),
    ):
        folder = tmp_path / name
        shutil.copytree(project / "artifacts", folder / "artifacts")
        shutil.rmtree(folder / "artifacts" / "distill")
        # As in test_train_devices.py.
        optimiser = tiny.SECTIONS["distill"]["optimiser"] | {"adam_eps": 1e-5}
        distill = {"accumulation": 2, "optimiser": optimiser} | options
        tiny.write(folder, distill=distill, runtime={"mesh": mesh})
        logs = processes.finish(*start("distill", folder, tmp_path / "compiled"))
        assert not [log for log in logs[1:] if "distill:" in log or "student_2:" in log]
        weights = load_file(folder / "artifacts/distill/student_2/model.safetensors")
        report = json.loads((folder / "reports/distill/metrics.json").read_text())
        found.append((np.concatenate([np.ravel(weights[key]) for key in sorted(weights)]), report))
    (one, metrics), (two, other) = found
    assert np.linalg.norm(one - two) < 1e-5 * np.linalg.norm(one)
    assert other["teacher"] == metrics["teacher"]
    assert other["student_2"] == pytest.approx(metrics["student_2"], rel=1e-2)
