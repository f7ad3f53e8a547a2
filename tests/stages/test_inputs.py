"""A stage checks what it reads: manifests and sizes at once, a file's content before its use."""

import json

import pytest

from sid2core import config
from sid2core.pipeline import artifact, workdir
from sid2core.pipeline.artifact import ArtifactError
from stages import distill, evaluate, guidance_search, train

INPUTS = {
    train: ["prepare"],
    guidance_search: ["prepare", "reference", "train"],
    distill: ["prepare", "reference", "train", "guidance_search"],
    evaluate: ["prepare", "reference", "train", "guidance_search", "distill"],
}
PAIRS = [
    pytest.param(stage, name, id=f"{stage.__name__.removeprefix('stages.')}-{name}")
    for stage, names in INPUTS.items()
    for name in names
]
# An input that no other input of the stage was made from may be any whole artifact.
FREE = {("train", "prepare"), ("guidance_search", "reference"), ("guidance_search", "train")}
FREE |= {("distill", "guidance_search"), ("evaluate", "distill")}
UNREAD = {("guidance_search", "prepare"), ("distill", "guidance_search")}
"""Of these a stage reads the manifest, or a file other than the largest."""
READ = [pair for pair in PAIRS if tuple(pair.id.split("-")) not in UNREAD]
SWAPPED = [pair for pair in PAIRS if tuple(pair.id.split("-")) not in FREE]


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def results(project):
    """What stages have written, but for what is shown while a training goes on."""
    return {
        name: raw
        for name, raw in content(project).items()
        if name.startswith("artifacts/") or name.endswith("evaluate/metrics.json")
    }


def refused(project, stage, monkeypatch, words):
    """The stage ends with ``words``, having claimed no work and written nothing."""

    def claim(*args, **kwargs):
        pytest.fail("work began")

    monkeypatch.setattr(workdir, "claim", claim)
    monkeypatch.setattr(workdir, "claim_training", claim)
    before = content(project)
    with pytest.raises(ArtifactError, match=words) as caught:
        stage.main(config.read())
    assert "dvc repro" in str(caught.value)
    assert content(project) == before


def largest(project, name):
    files = (path for path in (project / "artifacts" / name).rglob("*") if path.is_file())
    return max(
        (path for path in files if path.name != artifact.MANIFEST),
        key=lambda path: path.stat().st_size,
    )


@pytest.mark.parametrize(("stage", "name"), PAIRS)
def test_a_truncated_file(project, monkeypatch, stage, name):
    path = largest(project, name)
    path.write_bytes(path.read_bytes()[:-1])
    refused(project, stage, monkeypatch, rf"{path.name} has \d+ bytes, its manifest says")


@pytest.mark.parametrize(("stage", "name"), READ)
def test_a_file_of_the_same_size_with_another_content(project, stage, name):
    """Found before the file is used: the stage ends, and its earlier result stays."""
    path = largest(project, name)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    before = results(project)
    with pytest.raises(ArtifactError, match=rf"{path.name} has SHA-256 \w+, its manifest says"):
        stage.main(config.read())
    assert results(project) == before


@pytest.mark.parametrize(("stage", "name"), PAIRS)
def test_a_missing_artifact(project, monkeypatch, stage, name):
    (project / "artifacts" / name / artifact.MANIFEST).unlink()
    refused(project, stage, monkeypatch, rf"{name}/manifest\.json not found")


@pytest.mark.parametrize(("stage", "name"), SWAPPED)
def test_a_whole_artifact_of_another_run(project, monkeypatch, stage, name):
    path = project / "artifacts" / name / artifact.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["params"]["seed"] += 1
    path.write_text(json.dumps(manifest))
    artifact.load(name)
    refused(project, stage, monkeypatch, rf"was made from {name} \w+, but .*was swapped")
