import numpy as np
import pytest
from PIL import Image

from sid2core.cli import main
from sid2core.metrics import image_sets
from sid2core.pipeline import artifact
from tests.data import stored

IMAGES, LABELS = stored.records(11, (4, 5, 3))
CLIPS = np.stack([IMAGES[:4], IMAGES[4:8]], axis=1)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the artifacts of data and of an evaluation of three samplers."""
    monkeypatch.chdir(tmp_path)
    prepare = stored.prepared(artifact.ROOT, IMAGES, LABELS)
    kept = {"base": (IMAGES, LABELS), "video": (CLIPS, LABELS[:4]), "none": (IMAGES[:0],) * 2}
    with artifact.create("evaluate", {}, {"prepare": prepare}) as draft:
        for name, (images, labels) in kept.items():
            np.savez_compressed(draft.path(f"{name}.npz"), images=images, labels=labels)
        draft.metadata |= {"samplers": list(kept), "named": ["few"]}
    return tmp_path


def run(capsys, *arguments):
    """Exit code, lines on stdout, lines on stderr."""
    code = main.main(["samples", *arguments])
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err.splitlines()


def read(path):
    return np.concatenate(list(image_sets.opened(str(path)).chunks(4)))


def test_the_table_of_samplers(project, capsys):
    assert run(capsys, "--list") == (
        0,
        [
            "base         11 samples of 4x5x3",
            "video         4 samples of 2x4x5x3",
            "none          0 samples of 4x5x3",
        ],
        [],
    )


@pytest.mark.parametrize(
    ("arguments", "form"),
    [
        (["out"], "png"),
        (["a.npz"], "npz"),
        (["a.parquet"], "parquet"),
        (["out", "--format", "npz"], "npz"),
    ],
)
def test_samples_are_exported_unchanged(project, capsys, arguments, form):
    code, lines, errors = run(capsys, "base", "--out", *arguments)
    assert (code, errors) == (0, [])
    assert lines == [f"{arguments[0]}: 11 samples of base as {form}"]
    path = project / arguments[0]
    if path.suffix or form == "png":
        np.testing.assert_array_equal(read(path), IMAGES)
    else:
        with np.load(path) as file:
            np.testing.assert_array_equal(file["arr_0"], IMAGES)
            np.testing.assert_array_equal(file["arr_1"], LABELS)


def test_parquet_has_the_class_names_of_the_data_set(project, capsys):
    run(capsys, "base", "--out", "a.parquet")
    dataset = image_sets.opened("a.parquet").dataset
    assert dataset.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(dataset.labels, LABELS)


@pytest.mark.parametrize("path", ["a.npz", "a"])
def test_clips_are_exported_whole(project, capsys, path):
    assert run(capsys, "video", "--out", path) == (0, [f"{path}: 4 samples of video as npz"], [])
    with np.load(path) as file:
        np.testing.assert_array_equal(file["arr_0"], CLIPS)


def test_clips_are_exported_to_play(project, capsys):
    given = ("--out", "out", "--format", "webp", "--rate", "20")
    assert run(capsys, "video", *given) == (0, ["out: 4 samples of video as webp"], [])
    with Image.open(project / "out" / f"00001-{LABELS[1]}.webp") as clip:
        clip.load()
        assert (clip.n_frames, clip.size, clip.info["duration"]) == (2, (5, 4), 50)


def test_only_force_replaces(project, capsys):
    for force, code in (([], 0), ([], 1), (["--force"], 0)):
        found, _, errors = run(capsys, "base", "--out", "out", *force)
        assert (found, len(errors)) == (code, code)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bass", "--out", "x"], "sid2: no sampler 'bass'; the nearest is base; `sid2 samples"),
        (["few", "--out", "x"], "sid2: samples of 'few' are not kept: it is one of eval.samplers"),
        (["base"], "sid2: no output path for the samples of base; give --out PATH"),
        (["base", "--out", "x.jpg"], "sid2: JPEG loses what a metric sees"),
        (["base", "--out", "x", "--format", "jpeg"], "sid2: JPEG loses what a metric sees"),
        (["base", "--out", "x", "--format", "gif"], "sid2: gif is for clips, and these are images"),
        (["video", "--out", "x", "--format", "png"], "sid2: a PNG holds one image, not a clip"),
        (["none", "--out", "x"], "sid2: artifacts/evaluate/none.npz has no samples: raise"),
    ],
)
def test_an_error_is_one_line(project, capsys, arguments, words):
    code, lines, (error,) = run(capsys, *arguments)
    assert (code, lines) == (1, [])
    assert error.startswith(words)
    assert {path.name for path in project.iterdir()} - {".sid2"} == {"artifacts"}


def test_class_names_of_other_data_are_refused(project, capsys):
    manifest = project / "artifacts" / "prepare" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"a"', '"z"'))
    code, _, (error,) = run(capsys, "base", "--out", "a.parquet")
    assert code == 1
    assert "is not the manifest of the data that the samples were made from" in error
    manifest.unlink()
    code, _, (error,) = run(capsys, "base", "--out", "a.parquet")
    assert code == 1
    assert "manifest.json not found; Parquet needs its class names" in error
    assert run(capsys, "base", "--out", "a.npz")[0] == 0


def test_without_an_evaluation_the_cure_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").touch()
    code, _, (error,) = run(capsys, "--list")
    assert code == 1
    assert error.endswith("run `dvc repro evaluate` to make it again")


def test_samples_of_prompts_are_laid_out_for_a_benchmark(project, capsys):
    with artifact.create("evaluate", {}) as draft:
        grid = np.zeros((2, 4, 4, 5, 3), np.uint8)
        np.savez(draft.path("prompts.npz"), searched=grid)
        draft.metadata |= {"samplers": [], "prompts": [{"text": "a"}, {"text": "b"}]}
    given = ("--layout", "geneval", "--out", "out")
    lines = ["out: 2 prompts of searched as geneval"]
    assert run(capsys, "searched", *given) == (0, lines, [])
    assert (project / "out/00001/samples/0003.png").is_file()
    code, _, errors = run(capsys, "base", *given)
    assert code != 0
    assert "no sampler 'base' drew prompts; there are searched" in errors[0]


def test_without_prompts_there_is_no_layout(project, capsys):
    code, _, errors = run(capsys, "base", "--layout", "dpg", "--out", "out")
    assert code != 0
    assert "no samples of prompts: set eval.prompts" in errors[0]
