"""Reports of made-up experiments: what is read from Git, compared, written and shown."""

import json
import re

import jinja2
import pytest

from sid2core.report import page
from sid2core.report import studies as section
from sid2core.report.read import study_files
from sid2core.report.read.files import InputError
from sid2core.studies import experiments, results, writing
from sid2core.studies.errors import StudyError
from tests.refusals import refused
from tests.studies import studies

FD = {"sigmoid": [0.10, 0.20, 0.15], "edm": [0.20, 0.31, 0.24]}
LOCK = "stages: {code: {outs: [{path: artifacts/code/train.json, md5: %s}]}}"
TRAJECTORY = [{"name": "distance", "trajectory": "no_guidance"}]


def curve(first, last):
    rows = [f"no_guidance,fd_eval,{step},500,{value},," for step, value in ((8, first), (16, last))]
    guided = "best_guidance,fd_eval,8,500,9,,"
    return "\n".join(["curve,metric,step,samples,value,low,high", *rows, guided]) + "\n"


def files(run):
    fd = FD[run.variant][run.seed]
    return {
        "reports/evaluate/metrics.json": {"base": {"fd_eval_40": fd, "fd_eval_ratio_40": 9.0}},
        "reports/evaluate/trajectory.csv": curve(1.0 if run.variant == "edm" else 2.0, fd),
        "dvc.lock": LOCK % "one",
    }


@pytest.fixture
def folder(tmp_path):
    studies.repository(tmp_path)
    return tmp_path


def finish(folder, runs, make=files):
    studies.store(folder, {run.name: make(run) for run in runs})
    return experiments.finished(folder)


def collect(folder, make=files, **changes):
    runs = studies.all_runs(**changes)
    found = finish(folder, runs, make)
    return results.collect("two", studies.study(**changes), runs, found)


def test_finished_experiments_are_those_of_git_without_those_of_the_queue(folder):
    head = studies.repository(folder)
    studies.git(folder, "update-ref", "refs/exps/celery/stash", head)
    studies.git(folder, "update-ref", "refs/exps/exec/EXEC_HEAD", head)
    studies.store(folder, {"a-b-s0": {"x": "1"}})
    found = experiments.finished(folder)
    assert list(found) == ["a-b-s0"]
    assert found["a-b-s0"].baseline == head
    assert found["a-b-s0"].text("x") == "1"
    assert found["a-b-s0"].text("y") is None


def test_a_folder_without_git_is_refused(tmp_path):
    with refused(StudyError, "studies need a Git repository with a commit"):
        experiments.finished(tmp_path / "..")


def test_final_metrics_are_compared_in_pairs(folder):
    (claim,) = collect(folder).claims
    (difference,) = claim.differences
    assert claim.conclusion == "supported"
    assert difference.mean == pytest.approx(-0.1)
    assert difference.low < difference.mean < difference.high < 0


def test_a_trajectory_is_compared_at_each_step_and_the_claim_at_its_own(folder):
    claim = {"words": "Early, sigmoid is better.", "order": ["sigmoid", "edm"]}
    found = collect(folder, measure=TRAJECTORY, claims=[claim, claim | {"at": 0.5}])
    assert [one.conclusion for one in found.claims] == ["supported", "contradicted"]
    assert [one.differences[0].step for one in found.claims] == [16, 8]
    assert [one.step for one in found.measures[0].differences] == [8, 16]


def test_missing_runs_are_named_with_the_command(folder):
    runs = studies.all_runs()
    found = finish(folder, runs[1:])
    with refused(StudyError, "1 of 6 runs", runs[0].name, "sid2 study run two"):
        results.collect("two", studies.study(), runs, found)


def test_a_measure_that_no_experiment_has_is_left_out(folder):
    fid = {"name": "FID", "path": "reports/evaluate/metrics.json:base.fid_eval"}
    assert [one.name for one in collect(folder, measure=[fid, *studies.STUDY["measure"]]).measures]
    with refused(StudyError, "base.fid_eval", "correct the keys"):
        collect(folder, measure=[fid])


def test_a_measure_that_some_experiments_lack_is_refused(folder):
    def without(run):
        made = files(run)
        return made | ({"reports/evaluate/metrics.json": {}} if run.seed else {})

    with refused(StudyError, "base.fd_eval", "of 2 of 6 experiments"):
        collect(folder, without)


@pytest.mark.parametrize("lock", ["one", "two"])
def test_other_programs_are_counted(folder, lock):
    def make(run):
        return files(run) | ({"dvc.lock": LOCK % lock} if run.seed else {})

    assert collect(folder, make).programs == (1 if lock == "one" else 2)


def test_uncommitted_changes_of_the_program_are_named(folder):
    head = studies.git(folder, "rev-parse", "HEAD")[:12]
    assert collect(folder).commits == [head]
    studies.store(folder, {"a": {"sid2core/losses.py": "changed"}})
    changed = experiments.finished(folder)["a"]
    assert changed.commit_of_program() == f"{head} with uncommitted changes"


def test_numbers_are_found_with_or_without_their_count():
    values = {"base": {"fd_eval_1k": 0.5, "fd_eval_ratio_1k": 2.0, "nfe": 32, "bad": None}}
    assert results.number(values, "base.fd_eval") == 0.5
    assert results.number(values, "base.fd_eval_1k") == 0.5
    assert results.number(values, "base.nfe") == 32
    assert results.number(values, "base.bad") is None
    assert results.number(values, "other.fd_eval") is None


@pytest.mark.parametrize("measure", [studies.STUDY["measure"], TRAJECTORY])
def test_the_report_has_every_seed_interval_command_and_commit(folder, measure):
    found = collect(folder, measure=measure)
    place = folder / study_files.FOLDER / "two"
    written = writing.write(found, place)
    assert {path.suffix for path in written} == {".json", ".csv", ".svg"}
    assert study_files.read(folder) == [found]
    path, *_ = writing.write_markdown(found, folder / "docs" / "two.md")
    text = path.read_text(encoding="utf-8")
    head = studies.git(folder, "rev-parse", "HEAD")
    for part in ("supported at this scale", "sid2 study run two", head[:12], "0, 1, 2", "95 %"):
        assert part in text
    for link in re.findall(r"!\[.*\]\((.*)\)", text):
        assert (path.parent / link).read_text(encoding="utf-8").startswith("<svg xmlns=")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(page.TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    html = environment.get_template("studies.html.j2").render(studies=section.view([found]))
    for part in ("Two losses", "Sigmoid is better.", "supported at this scale", "<svg class"):
        assert part in html


def test_a_damaged_result_is_refused_with_the_command(folder):
    place = folder / study_files.FOLDER / "two"
    writing.write(collect(folder), place)
    path = place / study_files.FILE
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"claims": 3}), "utf-8")
    with refused(InputError, "study.json", "sid2 study report two"):
        study_files.read(folder)
