import json
import logging
import subprocess
import sys

import pytest

from sid2core.pipeline import artifact, workdir
from sid2core.pipeline.artifact import Artifact, ArtifactError
from sid2core.pipeline.workdir import WorkError
from tests import tiny

PARAMS = {"seed": 0, "train": {"steps": 3}}

HOLDER = """
import sys
from sid2core.pipeline import workdir as work
with work.claim("train", {"seed": 0, "train": {"steps": 3}}) as folder:
    (folder / "progress").write_text("half")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("SID2_WORK", "SID2_FRESH", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def holder(tmp_path):
    """Another process in the middle of the same work."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tiny.ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        process.folder = tmp_path / process.stdout.readline().strip()
        yield process
        process.kill()


def made(digest):
    return Artifact(tiny.ROOT, {}, digest)


def interrupted(params=PARAMS, **inputs):
    """Claim, do half of the work, fail; return the folder."""
    folders = []

    def half():
        with workdir.claim("train", params, **inputs) as folder:
            folders.append(folder)
            (folder / "progress").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    return folders[0]


def test_the_fingerprint_covers_every_parameter_and_input():
    inputs = {"prepare": made("aa"), "train": made("bb")}
    base = workdir.fingerprint(PARAMS, **inputs)
    others = [
        workdir.fingerprint(PARAMS | {"seed": 1}, **inputs),
        workdir.fingerprint({"seed": 0, "train": {"steps": 4}}, **inputs),
        workdir.fingerprint({"seed": 0, "train": {"steps": 3, "more": None}}, **inputs),
        workdir.fingerprint(PARAMS, prepare=made("ab"), train=made("bb")),
        workdir.fingerprint(PARAMS, prepare=made("bb"), train=made("aa")),
        workdir.fingerprint(PARAMS, prepare=made("aa")),
        workdir.fingerprint(PARAMS),
    ]
    assert len({base, *others}) == len(others) + 1


def test_the_fingerprint_does_not_hang_on_the_order_of_keys():
    turned = {"train": {"steps": 3}, "seed": 0}
    first = workdir.fingerprint(PARAMS, prepare=made("aa"), train=made("bb"))
    assert workdir.fingerprint(turned, train=made("bb"), prepare=made("aa")) == first


def test_done_work_is_removed(tmp_path):
    with workdir.claim("train", PARAMS) as folder:
        assert folder.resolve().is_relative_to(tmp_path / ".sid2" / "train")
        (folder / "deep").mkdir()
        (folder / "deep" / "checkpoint").write_text("x")
        assert json.loads((folder / "made_for.json").read_text()) == {
            "stage": "train",
            "params": PARAMS,
        }
    assert not folder.exists()


def test_failed_work_is_kept_and_found_again():
    left = interrupted()
    with workdir.claim("train", PARAMS) as folder:
        assert folder == left
        assert (folder / "progress").read_text() == "half"


def test_other_parameters_or_inputs_start_anew():
    left = interrupted(prepare=made("aa"))
    with workdir.claim("train", PARAMS | {"seed": 1}, prepare=made("aa")) as folder:
        assert folder != left
        assert not (folder / "progress").exists()
    with workdir.claim("train", PARAMS, prepare=made("bb")) as folder:
        assert not (folder / "progress").exists()
    assert (left / "progress").exists()


def test_a_fresh_start_can_be_asked_for(monkeypatch):
    interrupted()
    monkeypatch.setenv("SID2_FRESH", "1")
    with workdir.claim("train", PARAMS) as folder:
        assert not (folder / "progress").exists()


def test_the_lock_is_free_after_a_failure_even_while_its_traceback_is_held():
    with pytest.raises(ZeroDivisionError) as held, workdir.claim("train", PARAMS):
        raise ZeroDivisionError
    with workdir.claim("train", PARAMS):
        assert held.tb is not None


def test_work_lies_where_it_is_told_to(tmp_path, monkeypatch):
    assert workdir.root().resolve() == tmp_path / ".sid2"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    assert workdir.root() == tmp_path / "main" / ".sid2"
    monkeypatch.setenv("SID2_WORK", str(tmp_path / "scratch"))
    assert workdir.root() == tmp_path / "scratch"
    with workdir.claim("train", PARAMS) as folder:
        assert folder.parent == tmp_path / "scratch" / "train"


def test_the_log_names_the_folder(caplog):
    with caplog.at_level(logging.INFO), workdir.claim("train", PARAMS) as folder:
        assert str(folder) in caplog.text


def test_a_second_process_is_refused(holder):
    with pytest.raises(WorkError, match="already running in another process") as caught:
        workdir.claim("train", PARAMS).__enter__()
    assert str(holder.folder.with_suffix(".lock").name) in str(caught.value)
    assert (holder.folder / "progress").read_text() == "half"


def test_a_fresh_start_does_not_touch_the_work_of_a_living_process(holder, monkeypatch):
    monkeypatch.setenv("SID2_FRESH", "1")
    with pytest.raises(WorkError):
        workdir.claim("train", PARAMS).__enter__()
    assert (holder.folder / "progress").read_text() == "half"


def test_another_stage_goes_on_beside_it(holder):
    with workdir.claim("distill", PARAMS):
        assert holder.folder.exists()


def test_the_same_stage_of_other_parameters_is_refused_in_the_same_project(holder):
    with pytest.raises(ArtifactError, match=r"making artifacts/train .*of other parameters; wait"):
        workdir.claim("train", PARAMS | {"seed": 1}).__enter__()
    with pytest.raises(ArtifactError, match="another process is making"):
        artifact.create("train", {}).__enter__()


def test_another_project_with_the_same_work_folder_goes_on(holder, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    (tmp_path / "experiment").mkdir()
    monkeypatch.chdir(tmp_path / "experiment")
    with workdir.claim("train", PARAMS | {"seed": 1}) as folder, artifact.create("train", {}):
        assert folder.parent == holder.folder.parent


def test_a_killed_process_leaves_its_work_and_no_lock(holder):
    holder.kill()
    holder.wait()
    with workdir.claim("train", PARAMS) as folder:
        assert folder.resolve() == holder.folder
        assert (folder / "progress").read_text() == "half"
