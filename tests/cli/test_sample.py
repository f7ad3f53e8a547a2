"""``sid2 sample``: files that say how they were drawn, and draw it again."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sid2core.cli import main
from sid2core.conditioning import ConditionSpec
from sid2core.inference import drawn_files
from sid2core.metrics import image_sets
from tests.inference import continuing
from tests.inference.drawing import saved


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    saved(place / "images", ConditionSpec.of_classes(3, ("cat", "dog", "house")))
    continuing.saved(place / "clips")
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1), np.uint8)
    np.save(place / "мой clip.npy", frames)
    return place


@pytest.fixture
def project(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(models / "images", "artifacts/train")
    return models


def run(capsys, *arguments):
    """Exit code and the last line of errors."""
    code = main.main(["sample", *map(str, arguments)])
    return code, (capsys.readouterr().err.splitlines() or [""])[-1]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("out", ["a.png", "a.npz", "a.parquet"])
def test_a_file_is_drawn_again_byte_for_byte(capsys, out):
    grid = ["--grid"] if out == "a.png" else []
    how = ["--class", "dog", "2", "--count", 2, "--seed", 3, "--steps", 2, "--guidance", 1]
    assert run(capsys, *how, "--interval", -2, 3, "--out", out, *grid)[0] == 0
    again = f"again{Path(out).suffix}"
    assert run(capsys, "--like", out, "--out", again)[0] == 0
    assert Path(again).read_bytes() == Path(out).read_bytes()
    if out != "a.png":
        assert sum(map(len, image_sets.opened(out).chunks(8))) == 4
    requests, _ = drawn_files.read(Path(out))
    assert requests[0].label == [1, 1, 2, 2]


@pytest.mark.usefixtures("project")
def test_a_traced_drawing_shows_what_took_time_and_is_the_same(capsys):
    assert run(capsys, "--class", "cat", "--steps", 2, "--out", "plain.png")[0] == 0
    how = ["--like", "plain.png", "--out", "traced.png", "--profile", "trace"]
    assert main.main(["sample", *how]) == 0
    assert Path("traced.png").read_bytes() == Path("plain.png").read_bytes()
    place = Path("trace/plugins/profile/draw")
    longest = (place / "operations.csv").read_text(encoding="utf-8").splitlines()[1]
    assert longest.partition(",")[0] in capsys.readouterr().out
    assert (place / "perfetto_trace.json.gz").exists()


@pytest.mark.usefixtures("project")
def test_one_picture_of_a_folder_is_drawn_again(capsys):
    assert run(capsys, "--class", "cat", "--count", 2, "--steps", 1, "--out", "drawn")[0] == 0
    assert run(capsys, "--like", "drawn/00001-0.png", "--out", "again.png")[0] == 0
    assert Path("again.png").read_bytes() == Path("drawn/00001-0.png").read_bytes()


@pytest.mark.parametrize("out", ["a.gif", "a.webp"])
def test_a_clip_is_continued_and_drawn_again(project, capsys, out):
    how = ["--given", project / "мой clip.npy", "--frames", 4, "--steps", 1]
    assert run(capsys, project / "clips", *how, "--out", out)[0] == 0
    assert run(capsys, "--like", out, "--out", f"again{Path(out).suffix}")[0] == 0
    assert Path(f"again{Path(out).suffix}").read_bytes() == Path(out).read_bytes()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--class", "dgo"], "'dog'"),
        (["--out", "a.jpg"], "--out: a.jpg ends in .jpg"),
        (["--grid"], "--grid: found --out samples"),
        (["--count", "2", "--steps", "1", "--out", "a.png"], "holds one sample, and there are 2"),
        (["--like", "plain.png"], "does not say how it was drawn"),
        (["--like", "plain.png", "--class", "dog"], "leave out class"),
        (["--prompt", "plain.png"], "is a file, expected a text"),
        (["--sampler", "heum"], "the nearest is heun"),
        (["--count", "0"], "count: found 0"),
    ],
)
def test_an_error_is_one_line_and_writes_nothing(capsys, arguments, words):
    Image.new("L", (2, 2)).save("plain.png")
    code, error = run(capsys, *arguments)
    assert code == 1
    assert words in error
    assert {one.name for one in Path().iterdir()} == {"plain.png", "artifacts"}


def test_other_weights_are_refused(project, capsys):
    assert run(capsys, "--class", "dog", "--steps", 1, "--out", "a.png")[0] == 0
    shutil.copy(project / "clips/model.safetensors", "artifacts/train/model.safetensors")
    code, error = run(capsys, "--like", "a.png", "--out", "b.png")
    assert code == 1
    assert "model.safetensors" in error or "weights" in error
