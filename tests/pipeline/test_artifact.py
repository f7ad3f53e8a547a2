import errno
import hashlib
import json
import math
import os

import pytest

from sid2core.errors import Sid2Error
from sid2core.pipeline import artifact, verified
from sid2core.pipeline.artifact import ArtifactError
from tests.refusals import refused


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make(stage="first", params=None, inputs=None, text="content", metadata=None):
    with artifact.create(stage, params or {"seed": 0}, inputs) as draft:
        draft.path("a.txt").write_text(text)
        draft.path("deep/er/b.bin").write_bytes(bytes(range(200)))
        draft.metadata |= metadata or {"count": 3}
    return artifact.load(stage)


def tree(folder):
    """All files but locks, which stay."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def rewrite(folder, **changes):
    """Put other values into a manifest, as a careless hand would."""
    path = folder / artifact.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_round_trip():
    source = make()
    made = make("second", {"seed": 7, "model": {"width": 3}}, {"first": source})
    assert made.stage == "second"
    assert made.metadata == {"count": 3}
    assert made.path("a.txt").read_text() == "content"
    assert made.path("deep/er/b.bin").read_bytes() == bytes(range(200))
    assert made.manifest["params"] == {"seed": 7, "model": {"width": 3}}
    assert made.manifest["inputs"] == {"first": source.digest}
    assert set(made.manifest["versions"]) == {"jax", "flax", "optax", "numpy"}
    assert artifact.load("second", first=source).digest == made.digest


def test_the_manifest_lists_every_file_with_its_hash():
    made = make()
    content = tree(made.folder)
    manifest = content.pop("manifest.json")
    assert json.loads(manifest)["files"] == {
        name: {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
        for name, raw in content.items()
    }
    assert made.digest == hashlib.sha256(manifest).hexdigest()


def test_the_same_content_gives_the_same_bytes_whatever_the_order_of_writing():
    before = tree(make().folder)
    with artifact.create("first", {"seed": 0}) as draft:
        draft.metadata |= {"count": 3}
        draft.path("deep/er/b.bin").write_bytes(bytes(range(200)))
        draft.path("a.txt").write_text("content")
    assert tree(artifact.ROOT / "first") == before


@pytest.mark.parametrize(
    "changed", [{"text": "CONTENT"}, {"params": {"seed": 1}}, {"metadata": {"count": 4}}]
)
def test_the_digest_depends_on_all_content(changed):
    assert make().digest != make(**changed).digest


def test_an_unknown_file_is_refused_with_the_known_ones():
    with pytest.raises(ArtifactError, match=r"no file c\.txt; it holds \['a\.txt', 'deep/er/b"):
        make().path("c.txt")


def test_a_missing_artifact_names_the_command_that_makes_it(tmp_path):
    (tmp_path / "dvc.yaml").touch()
    with pytest.raises(ArtifactError, match=r"first/manifest\.json not found; run `dvc repro fir"):
        artifact.load("first")


def test_files_without_a_manifest_are_no_artifact():
    (make().folder / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="not found"):
        artifact.load("first")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"\xff\xfe", b"{}", b'{"files": {}, "inputs": {}}']
)
def test_a_damaged_manifest_is_refused(content):
    (make().folder / "manifest.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"cannot be read .*dvc repro first"):
        artifact.load("first")


def test_a_truncated_file_is_reported_with_both_sizes():
    path = make().path("deep/er/b.bin")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArtifactError, match=r"b\.bin has 100 bytes, its manifest says 200"):
        artifact.load("first")


def test_a_file_of_equal_size_but_other_content_is_reported():
    make().path("a.txt").write_text("contend")
    made = artifact.load("first")
    with pytest.raises(ArtifactError, match=r"a\.txt has SHA-256 \w{12}, its manifest says \w{12}"):
        made.path("a.txt")
    with pytest.raises(ArtifactError, match="dvc repro first"):
        made.checked()
    assert made.path("deep/er/b.bin") == made.checked("deep") / "er" / "b.bin"


def test_an_unknown_folder_is_refused():
    with pytest.raises(ArtifactError, match="no folder dee"):
        make().checked("dee")


def test_a_missing_file_is_reported():
    make().path("a.txt").unlink()
    with pytest.raises(ArtifactError, match=r"a\.txt is listed in its manifest but missing"):
        artifact.load("first")


def test_another_stages_folder_is_refused():
    make("other").folder.rename("artifacts/first")
    with pytest.raises(ArtifactError, match="format 1 of stage other; expected 1 of first"):
        artifact.load("first")


def test_another_format_is_refused():
    rewrite(make().folder, format=99)
    with pytest.raises(ArtifactError, match="format 99 of stage first; expected 1"):
        artifact.load("first")


def test_an_artifact_of_other_inputs_is_refused():
    source = make()
    make("second", inputs={"first": source})
    other = make(text="another")
    digests = source.digest[:12], other.digest[:12]
    with refused(ArtifactError, "was made from first", *digests, "`dvc repro second`"):
        artifact.load("second", first=other)


def test_an_artifact_that_names_no_such_input_is_refused():
    source = make()
    make("second")
    with pytest.raises(ArtifactError, match="was made from first nothing, but"):
        artifact.load("second", first=source)


def test_if_the_body_raises_the_earlier_artifact_stays():
    before = tree(make().folder)

    def interrupted():
        with artifact.create("first", {"seed": 1}) as draft:
            draft.path("a.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert tree(artifact.ROOT) == {f"first/{name}": raw for name, raw in before.items()}


def test_a_fact_that_is_no_json_leaves_the_earlier_artifact_too():
    before = tree(make().folder)
    with pytest.raises(ValueError, match="JSON"):
        make(metadata={"loss": math.nan})
    assert tree(artifact.ROOT) == {f"first/{name}": raw for name, raw in before.items()}


def test_the_draft_of_a_killed_run_is_not_mixed_in():
    stale = artifact.ROOT / ".first.draft"
    stale.mkdir(parents=True)
    (stale / "stale.txt").write_text("of a killed run")
    assert set(tree(make().folder)) == {"a.txt", "deep/er/b.bin", "manifest.json"}
    assert not stale.exists()


def test_a_kill_while_the_folders_change_places_leaves_the_earlier_one_beside(monkeypatch):
    before = tree(make().folder)
    replace = os.replace

    def killed(made, target):
        if os.path.isdir(made):
            raise KeyboardInterrupt
        replace(made, target)

    with monkeypatch.context() as patch:
        patch.setattr("sid2core.atomic.os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            make(text="another")
    assert tree(artifact.ROOT / ".first.before") == before
    assert make(text="another").folder.exists()
    assert not (artifact.ROOT / ".first.before").exists()


def test_a_smaller_artifact_leaves_nothing_of_the_earlier_one():
    make()
    with artifact.create("first", {}) as draft:
        draft.path("only.txt").write_text("one")
    assert set(tree(artifact.ROOT)) == {"first/only.txt", "first/manifest.json"}


def test_users_can_cure_it():
    assert issubclass(ArtifactError, Sid2Error)


def test_a_manifest_of_an_earlier_version_has_its_metadata_under_facts():
    assert artifact.metadata_of({"facts": {"shape": [8]}}) == {"shape": [8]}
    assert artifact.metadata_of({"metadata": {"shape": [9]}}) == {"shape": [9]}


def test_outside_a_project_its_root_is_the_cure(tmp_path):
    with refused(ArtifactError, str(tmp_path), "run from the project's root"):
        artifact.load("evaluate")


def test_a_file_without_permission_is_not_made_again(monkeypatch):
    def deny(path, folder, expected):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    made = make()
    monkeypatch.setattr(verified, "checked", deny)
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    with refused(ArtifactError, "is not readable (Permission denied)") as caught:
        made.path("a.txt")
    assert "dvc repro" not in str(caught.value)
