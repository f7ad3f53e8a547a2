"""`sid2 study` in a small project with made-up experiments."""

import shutil

import pytest
from ruamel.yaml import YAML

from sid2core.cli import main
from sid2core.studies import runs
from tests import tiny
from tests.studies import studies


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The files that studies need, in a Git repository, with the study `two`."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(tiny.ROOT / name, tmp_path)
    shutil.copytree(tiny.ROOT / "conf", tmp_path / "conf")
    (tmp_path / "experiments").mkdir()
    with (tmp_path / "experiments" / "two.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(studies.raw(), file)
    studies.repository(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def finish(project, every):
    values = {"sigmoid": 0.1, "edm": 0.2}
    studies.store(
        project,
        {
            run.name: {
                "reports/evaluate/metrics.json": {
                    "base": {"fd_eval_40": values[run.variant] + run.seed / 100}
                }
            }
            for run in every
        },
    )


def test_the_states_of_a_study(project, capsys):
    every = runs.all_of("two", studies.study())
    finish(project, every[:2])
    assert main.main(["study", "list"]) == 0
    assert "two   2 of  6 runs  Two losses" in capsys.readouterr().out
    assert main.main(["study", "show", "two"]) == 0
    shown = capsys.readouterr().out
    assert "sigmoid: 2 of 3 runs are finished" in shown
    assert 'diffusion.loss.name = "edm"' in shown
    assert main.main(["study", "report", "two"]) == 1
    assert "4 of 6 runs are not finished" in capsys.readouterr().err


def test_a_finished_study_starts_nothing_and_is_reported(project, capsys, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_COUNT", "2")
    for number, key in enumerate(("user.name", "user.email")):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", "test@localhost")
    finish(project, runs.all_of("two", studies.study()))
    assert main.main(["study", "run", "two"]) == 0
    assert "all 6 runs are finished" in capsys.readouterr().out
    assert main.main(["study", "run", "two", "--dry-run"]) == 0
    assert "0 of 6 runs are missing" in capsys.readouterr().out
    assert main.main(["study", "report", "two", "--to", "two.md"]) == 0
    assert "Sigmoid is better. SUPPORTED at this scale, 3 seeds" in capsys.readouterr().out
    assert (project / "two.md").is_file()
    assert (project / "reports/studies/two/values.csv").is_file()
