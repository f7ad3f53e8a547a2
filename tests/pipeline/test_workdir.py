import json
import logging
import os
import subprocess
import sys
import time

import pytest

from sid2core.pipeline import artifact, code, recorded, workdir
from sid2core.pipeline.artifact import Artifact, ArtifactError
from sid2core.pipeline.workdir import WorkError
from tests import tiny
from tests.damage import DAMAGES
from tests.refusals import refused

PARAMS = {"seed": 0, "train": {"steps": 3}}

HOLDER = """
import sys
from sid2core.pipeline import workdir as work
with work.claim_training("train", {"seed": 0, "train": {"steps": 3}}) as folder:
    (folder / "progress").write_text("half")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("SID2_WORK", "SID2_FRESH", "SID2_CONTINUE", "DVC_ROOT"):
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
        with workdir.claim_training("train", params, **inputs) as folder:
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


def test_the_fingerprint_does_not_depend_on_the_order_of_keys():
    turned = {"train": {"steps": 3}, "seed": 0}
    first = workdir.fingerprint(PARAMS, prepare=made("aa"), train=made("bb"))
    assert workdir.fingerprint(turned, train=made("bb"), prepare=made("aa")) == first


def finished(text="x", params=PARAMS):
    """Do the work to its end, with an artifact; return the folder and whether it had been done."""
    with workdir.claim_training("train", params) as folder:
        before = (folder / "checkpoint").exists()
        (folder / "checkpoint").write_text(text)
        with artifact.create("train", params) as draft:
            draft.path("model").write_text(text)
    return folder, before


def record(project, where="lock", cache=".dvc/cache"):
    """What DVC writes after a stage: its cache, and the lock file or an entry of the run cache."""
    cache = project / cache
    manifest = recorded.md5(project / "artifacts/train/manifest.json")
    objects = cache / "files/md5/ab"
    objects.mkdir(parents=True, exist_ok=True)
    listing = [{"md5": "0" * 32, "relpath": "model"}, {"md5": manifest, "relpath": "manifest.json"}]
    (objects / "cdef.dir").write_text(json.dumps(listing))
    entry = {"cmd": "python", "outs": [{"path": "artifacts/train", "md5": "abcdef.dir"}]}
    if where == "lock":
        (project / "dvc.lock").write_text(json.dumps({"stages": {"train": entry}}))
    else:
        (cache / "runs/ab/abc").mkdir(parents=True)
        (cache / "runs/ab/abc/def").write_text(json.dumps(entry))


def test_the_folder_says_what_it_was_made_for():
    with workdir.claim_training("train", PARAMS, prepare=made("aa")) as folder:
        about = json.loads((folder / "made_for.json").read_text())
    assert about["stage"] == "train"
    assert about["params"] == PARAMS
    assert about["inputs"] == {"prepare": "aa"}
    assert about["code"] == code.running("train").to_json()


def test_finished_work_is_kept_and_used_until_dvc_has_recorded_it(tmp_path):
    folder, before = finished()
    assert not before
    assert folder.resolve().is_relative_to(tmp_path / ".sid2" / "train")
    workdir.prune()
    assert finished() == (folder, True)
    record(tmp_path)
    workdir.prune()
    assert not folder.exists()


def test_recorded_work_is_not_used_again(tmp_path):
    """Whoever forces a stage wants its work done again."""
    finished()
    record(tmp_path)
    assert finished()[1] is False


@pytest.mark.parametrize("cache", [".dvc/cache", "elsewhere/cache"])
def test_work_of_an_experiment_is_recorded_in_the_run_cache(tmp_path, cache):
    folder, _ = finished()
    (tmp_path / ".dvc").mkdir(exist_ok=True)
    (tmp_path / ".dvc/config").write_text(f"[cache]\n    # a comment\n    dir = ../{cache}\n")
    record(tmp_path, "runs", cache)
    workdir.prune()
    assert not folder.exists()


@pytest.mark.parametrize("harm", ["lock of another result", "no listing", "another manifest"])
def test_work_stays_if_the_record_is_not_of_this_result(tmp_path, harm):
    folder, _ = finished()
    record(tmp_path)
    listing = tmp_path / ".dvc/cache/files/md5/ab/cdef.dir"
    if harm == "lock of another result":
        lock = (tmp_path / "dvc.lock").read_text()
        (tmp_path / "dvc.lock").write_text(lock.replace("abcdef", "abcdee"))
    elif harm == "no listing":
        listing.unlink()
    else:
        listing.write_text(listing.read_text().replace("manifest.json", "manifest.txt"))
    workdir.prune()
    assert (folder / "checkpoint").exists()


def test_old_finished_work_is_removed_and_unfinished_work_is_not():
    folder, _ = finished()
    left = interrupted(PARAMS | {"seed": 1})
    old = time.time() - (workdir.KEPT_DAYS * 24 + 1) * 3600
    for path in (*folder.iterdir(), *left.iterdir()):
        os.utime(path, (old, old))
    workdir.prune()
    assert not folder.exists()
    assert (left / "progress").exists()


def test_work_in_use_is_not_removed(holder):
    (holder.folder / "finished.json").write_text('{"stage": "train", "manifest": null}')
    old = time.time() - (workdir.KEPT_DAYS * 24 + 1) * 3600
    os.utime(holder.folder / "finished.json", (old, old))
    workdir.prune()
    assert (holder.folder / "progress").exists()


def other_code(monkeypatch):
    """From now on the program is another one."""
    program = code.running("train")
    changed = code.Program({**program.modules, "sid2core/rng.py": "0"}, program.packages)
    monkeypatch.setattr(code, "running", lambda stage: changed)


def test_a_training_of_other_code_stops_with_two_options(monkeypatch):
    left = interrupted()
    other_code(monkeypatch)
    found = "done by other code: sid2core/rng.py differ"
    with refused(WorkError, found, "SID2_CONTINUE=1", "SID2_FRESH=1"):
        workdir.claim_training("train", PARAMS).__enter__()
    assert (left / "progress").read_text() == "half"
    with monkeypatch.context() as patch:
        patch.setenv("SID2_CONTINUE", "1")
        assert interrupted() == left
    with workdir.claim_training("train", PARAMS) as folder:  # from now on it is of this code
        assert (folder / "progress").exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_work_whose_record_is_damaged_is_continued_by_its_copy(damage):
    damage(interrupted() / "made_for.json")
    with workdir.claim_training("train", PARAMS) as folder:
        assert (folder / "progress").exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_work_of_unknown_code_is_not_used_silently(monkeypatch, damage):
    for path in interrupted().glob("made_for.json*"):
        damage(path)
    found = "unknown ones, since made_for.json and its copy are damaged"
    with refused(WorkError, found, "SID2_CONTINUE=1"):
        workdir.claim_training("train", PARAMS).__enter__()
    monkeypatch.setenv("SID2_CONTINUE", "1")
    with workdir.claim_training("train", PARAMS) as folder:
        assert (folder / "progress").exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_chunks_are_of_this_code_whatever_happened_to_the_record(damage):
    folder, _ = chunks()
    damage(folder / "made_for.json")
    assert chunks() == (folder, True)


@pytest.mark.parametrize("damage", DAMAGES)
def test_work_with_a_damaged_mark_is_kept_and_used(tmp_path, damage):
    folder, _ = finished()
    record(tmp_path)
    damage(folder / "finished.json")
    workdir.prune()
    assert finished() == (folder, True)


def test_a_training_of_other_code_can_start_again(monkeypatch):
    interrupted()
    other_code(monkeypatch)
    monkeypatch.setenv("SID2_FRESH", "1")
    with workdir.claim_training("train", PARAMS) as folder:
        assert not (folder / "progress").exists()


def test_finished_training_of_other_code_is_not_used_silently(monkeypatch):
    finished()
    other_code(monkeypatch)
    with pytest.raises(WorkError, match="other code"):
        finished()


def test_a_folder_without_any_work_asks_nothing(monkeypatch):
    left = interrupted()
    (left / "progress").unlink()
    other_code(monkeypatch)
    with workdir.claim_training("train", PARAMS) as folder:
        assert folder == left


def chunks(**params):
    """Claim work in chunks, do one of them, fail; the folder and whether the chunk was there."""
    found = []

    def work():
        with workdir.claim("evaluate", PARAMS | params, train=made("aa")) as folder:
            found.extend([folder, (folder / "chunk").exists()])
            (folder / "chunk").write_text("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    return tuple(found)


def test_chunks_of_other_code_are_computed_again_and_removed(monkeypatch):
    first, _ = chunks()
    other, _ = chunks(seed=1)
    assert chunks() == (first, True)
    other_code(monkeypatch)
    again, there = chunks()
    assert again != first
    assert not there
    assert not first.exists()
    assert other.exists(), "of other parameters"


def test_failed_work_is_kept_and_found_again():
    left = interrupted()
    with workdir.claim_training("train", PARAMS) as folder:
        assert folder == left
        assert (folder / "progress").read_text() == "half"


def test_other_parameters_or_inputs_start_anew():
    left = interrupted(prepare=made("aa"))
    with workdir.claim_training("train", PARAMS | {"seed": 1}, prepare=made("aa")) as folder:
        assert folder != left
        assert not (folder / "progress").exists()
    with workdir.claim_training("train", PARAMS, prepare=made("bb")) as folder:
        assert not (folder / "progress").exists()
    assert (left / "progress").exists()


def test_a_fresh_start_can_be_asked_for(monkeypatch):
    interrupted()
    monkeypatch.setenv("SID2_FRESH", "1")
    with workdir.claim_training("train", PARAMS) as folder:
        assert not (folder / "progress").exists()


def test_the_lock_is_free_after_a_failure_even_while_its_traceback_is_held():
    with pytest.raises(ZeroDivisionError) as held, workdir.claim_training("train", PARAMS):
        raise ZeroDivisionError
    with workdir.claim_training("train", PARAMS):
        assert held.tb is not None


def test_work_lies_where_the_environment_says(tmp_path, monkeypatch):
    assert workdir.root().resolve() == tmp_path / ".sid2"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    assert workdir.root() == tmp_path / "main" / ".sid2"
    monkeypatch.setenv("SID2_WORK", str(tmp_path / "scratch"))
    assert workdir.root() == tmp_path / "scratch"
    with workdir.claim_training("train", PARAMS) as folder:
        assert folder.parent == tmp_path / "scratch" / "train"


def test_the_log_names_the_folder(caplog):
    with caplog.at_level(logging.INFO), workdir.claim_training("train", PARAMS) as folder:
        assert str(folder) in caplog.text


def test_a_second_process_is_refused(holder):
    lock = holder.folder.with_suffix(".lock").name
    with refused(WorkError, lock, "already running in another process"):
        workdir.claim_training("train", PARAMS).__enter__()
    assert (holder.folder / "progress").read_text() == "half"


def test_a_fresh_start_does_not_touch_the_work_of_a_living_process(holder, monkeypatch):
    monkeypatch.setenv("SID2_FRESH", "1")
    with pytest.raises(WorkError):
        workdir.claim_training("train", PARAMS).__enter__()
    assert (holder.folder / "progress").read_text() == "half"


def test_another_stage_goes_on_beside_it(holder):
    with workdir.claim_training("distill", PARAMS):
        assert holder.folder.exists()


def test_the_same_stage_of_other_parameters_is_refused_in_the_same_project(holder):
    with pytest.raises(ArtifactError, match=r"making artifacts/train .*of other parameters; wait"):
        workdir.claim_training("train", PARAMS | {"seed": 1}).__enter__()
    with pytest.raises(ArtifactError, match="another process is making"):
        artifact.create("train", {}).__enter__()


def test_another_project_with_the_same_work_folder_goes_on(holder, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    (tmp_path / "experiment").mkdir()
    monkeypatch.chdir(tmp_path / "experiment")
    with (
        workdir.claim_training("train", PARAMS | {"seed": 1}) as folder,
        artifact.create("train", {}),
    ):
        assert folder.parent == holder.folder.parent


def test_a_killed_process_leaves_its_work_and_no_lock(holder):
    holder.kill()
    holder.wait()
    with workdir.claim_training("train", PARAMS) as folder:
        assert folder.resolve() == holder.folder
        assert (folder / "progress").read_text() == "half"
