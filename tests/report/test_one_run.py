import pytest
from ruamel.yaml import YAML

from sid2core.pipeline import recorded
from sid2core.report.read import inputs
from sid2core.report.read.inputs import InputError
from tests.report import synthetic

TRAIN = {"md5": "1" * 32 + ".dir", "path": "artifacts/train"}


@pytest.fixture
def root(tmp_path):
    synthetic.write(tmp_path)
    lock(tmp_path, TRAIN)
    return tmp_path


def lock(root, train):
    """Record the metrics of training, and an evaluation of the artifact ``train``."""
    metrics = "reports/train/metrics.json"
    outs = [TRAIN, {"path": metrics, "hash": "md5", "md5": recorded.md5(root / metrics)}]
    stages = {"train": {"outs": outs}, "evaluate": {"deps": [train], "outs": []}}
    with (root / "dvc.lock").open("w", encoding="utf-8") as file:
        YAML().dump({"schema": "2.0", "stages": stages}, file)


def test_reports_of_the_recorded_run_are_read(root):
    assert inputs.read(synthetic.params(), root).training["steps"] > 0


def test_metrics_of_another_run_are_refused(root):
    path = root / "reports/train/metrics.json"
    path.write_text(path.read_text(encoding="utf-8").replace("}", ', "extra": 1}'), "utf-8")
    with pytest.raises(InputError, match=r"metrics\.json is not what DVC .*`dvc repro train`"):
        inputs.read(synthetic.params(), root)


def test_reports_made_from_another_artifact_are_refused(root):
    lock(root, TRAIN | {"md5": "2" * 32 + ".dir"})
    with pytest.raises(InputError, match=r"another artifacts/train .*`dvc repro evaluate`"):
        inputs.read(synthetic.params(), root)
