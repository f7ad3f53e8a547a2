"""The examples of docs/extending.md: kinds from outside the package run in the whole pipeline."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import processes, tiny

pytestmark = pytest.mark.slow
DOCUMENT = tiny.ROOT / "docs" / "extending.md"
STAGES = """
from sid2core import config
from sid2core.pipeline.code import plugins
from stages import code
from tests.stages.dag import STAGES
code.main(plugins())
for stage in STAGES:
    stage.main(config.read())
"""
KINDS = {
    "data": {"source": {"name": "stripes", "stripes": {"count": 80}}},
    "diffusion": {"loss": {"name": "bump", "bump": {"centre": -1.0}}},
    "sampling": {"sampler": {"name": "churn", "churn": {"amount": 0.3}}},
    "distill": {"form": {"name": "unweighted", "unweighted": {}}},
    "eval": {"extractors": {"quadrants": {}}, "primary_extractor": "quadrants"},
}
"""Changes of ``params.yaml``, one for each example but the condition kind, which needs none."""

SMALL = {
    "model": tiny.ONE_BLOCK,
    # The search and the evaluation draw by the same programs.
    "guidance": {"weight": 1.0},
    "guidance_search": {"weights": [1.0], "intervals": []},
}


def write_plugins(folder: Path) -> None:
    """The document's Python examples, each in the file that its first line names."""
    blocks = re.findall(
        r"```python\n# plugins/(\w+\.py)\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S
    )
    assert {name for name, _ in blocks} >= {"my_kinds.py", "my_samplers.py", "my_modules.py"}
    (folder / "plugins").mkdir()
    for name, source in blocks:
        with (folder / "plugins" / name).open("a", encoding="utf-8") as file:
            file.write(source)


def run(folder: Path, program: str, compiled: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=processes.environment(compiled, SID2_WORK=str(folder / ".sid2")),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def extended(tmp_path_factory, compiled):
    """A project that names the examples as its plugins, after all stages."""
    folder = tmp_path_factory.mktemp("extended")
    write_plugins(folder)
    shutil.copy(tiny.ROOT / "dvc.yaml", folder)
    tiny.write(folder, plugins=["plugins.my_kinds"], **SMALL, **KINDS)
    done = run(folder, STAGES, compiled)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def manifest(folder, stage):
    return json.loads((folder / "artifacts" / stage / "manifest.json").read_text())


def test_manifests_hold_the_chosen_kinds_alone(extended):
    provenance = json.loads((extended / "reports/prepare/source.json").read_text())
    assert provenance["params"]["data"]["source"] == {
        "name": "stripes",
        "stripes": {"count": 80},
    }
    loss = manifest(extended, "train")["params"]["diffusion"]["loss"]
    assert loss == {"name": "bump", "bump": {"centre": -1.0}}
    sampler = manifest(extended, "evaluate")["params"]["sampling"]["sampler"]
    assert sampler == {"name": "churn", "churn": {"amount": 0.3}}
    form = manifest(extended, "distill")["params"]["distill"]["form"]
    assert form == {"name": "unweighted", "unweighted": {}}


def test_the_model_is_conditioned_on_the_class_and_on_the_new_kind(extended):
    config = json.loads((extended / "artifacts" / "train" / "config.json").read_text())
    assert list(config["condition"]) == ["label", "brightness"]


def test_searches_and_tables_go_by_the_new_extractor(extended):
    best = json.loads((extended / "artifacts/guidance_search/best.json").read_text())
    assert best["distance"] == "fd_quadrants"
    with (extended / "reports/evaluate/scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["extractor"] for row in rows} == {"classifier", "quadrants"}
    assert all(np.isfinite(float(row["value"])) for row in rows)


def test_the_page_shows_the_new_weighting(extended):
    with (extended / "reports/analysis/weighting.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert "bump" in (extended / "reports/index.html").read_text(encoding="utf-8")


def test_a_model_of_a_missing_plugin_names_it(extended, compiled):
    program = "import sid2core; sid2core.load_model('artifacts/train')"
    done = run(extended, program, compiled)
    assert done.returncode != 0
    assert "condition kind 'brightness' is unknown" in done.stderr
