"""``sid2 sample``: files that say how they were drawn, and draw it again."""

import argparse
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sid2core.cli import main, sample
from sid2core.conditioning import ConditionSpec
from sid2core.inference import drawn_files
from sid2core.metrics import image_sets
from sid2core.pipeline import progress
from tests.inference import continuing
from tests.inference.drawing import saved


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    saved(place / "images", ConditionSpec.of_classes(3, ("cat", "dog", "house")))
    continuing.saved(place / "clips")
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1), np.uint8)
    np.save(place / "мой clip.npy", frames)
    np.save(place / "scalar.npy", np.uint8(3))
    (place / "empty.npy").touch()
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
    how = ["--class", "dog", "2", "--count", 3, "--seed", 3, "--steps", 2, "--guidance", 1]
    assert run(capsys, *how, "--interval", -2, 3, "--out", out, *grid)[0] == 0
    again = f"again{Path(out).suffix}"
    assert run(capsys, "--like", out, "--out", again)[0] == 0
    assert Path(again).read_bytes() == Path(out).read_bytes()
    if out == "a.png":
        with Image.open(out) as rows:  # one for each class
            assert rows.size == (3 * 8, 2 * 8)
    else:
        assert sum(map(len, image_sets.opened(out).chunks(8))) == 6
    requests, _ = drawn_files.read(Path(out))
    assert requests[0].label == [1, 1, 1, 2, 2, 2]


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
        (["--count", "0"], "--count: found 0"),
        (
            ["--ema", "power 0.2"],
            "artifacts/train has only the usual average; leave --ema NAME out",
        ),
        (["--negative", "a cat", "--guidance", "1"], "--negative: the model takes no text"),
        (["--frames", "3"], "--frames: found 3, but the model draws images"),
        (["--init", "no.png"], "--init: no.png does not exist"),
        (["--interval", "0", "1", "--guidance", "0"], "set --guidance G too"),
        (["--rate", "0"], "--rate: found 0"),
        (["--given", "plain.png"], "--given: the model continues no frames; it takes --class NAME"),
        (["--prompt", "a cat"], "--prompt: the model takes no text; it takes --class NAME"),
    ],
)
def test_an_error_is_one_line_and_nothing_is_drawn(capsys, monkeypatch, arguments, words):
    monkeypatch.setattr(progress, "bar", None)
    Image.new("L", (2, 2)).save("plain.png")
    assert main.main(["sample", *arguments]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert words in error
    assert {one.name for one in Path().iterdir()} == {"plain.png", "artifacts"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prompt", "a"], "no text; it takes --class NAME and --given CLIP"),
        ([], "--given: missing; the model continues"),
        (["--given", "мой clip.npy", "--out", "a.png"], ".png does not hold one clip"),
        (["--given", "мой clip.npy", "empty.npy"], "--given: empty.npy cannot be read"),
        (["--given", "scalar.npy"], "--given: scalar.npy cannot be read"),
    ],
)
def test_what_a_model_of_clips_lacks_is_refused_before_drawing(
    models, capsys, monkeypatch, arguments, words
):
    monkeypatch.chdir(models)
    monkeypatch.setattr(progress, "bar", None)
    assert main.main(["sample", "clips", *arguments]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.usefixtures("project")
def test_a_model_that_is_not_there_is_answered_with_those_that_are(models, capsys):
    for steps in (2, 16):
        shutil.copytree(models / "images", f"artifacts/distill/student_{steps}")
    error = run(capsys, "--student", 4)[1]
    assert "--student: found 4; artifacts/distill has students of 2, 16 steps" in error
    assert "take --student 2, or add 4 to distill.steps" in error
    error = run(capsys, "artifacts/distill/student_15")[1]
    assert "student_15 does not exist" in error
    assert "student_16, student_2; the nearest is artifacts/distill/student_16" in error
    for width in (0.1, 0.25):
        shutil.copy(
            "artifacts/train/model.safetensors", f"artifacts/train/ema_power_{width}.safetensors"
        )
    error = run(capsys, "--ema", "power 0.2")[1]
    assert "has power 0.1, power 0.25: the nearest is 'power 0.25'" in error


def requests_of(*arguments):
    parser = argparse.ArgumentParser()
    sample.arguments(parser)
    return sample.requests_of(parser.parse_args([*map(str, arguments)]))


def test_a_file_of_prompts_is_read_as_the_grid_reads_it(tmp_path):
    prompts = tmp_path / "prompts.txt"
    lines = ["# a comment", "", "a {red|blue} star --n a circle --d 7 --s 8 --l 3", "a cross"]
    prompts.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    found = requests_of("folder", "--prompts", prompts, "--seed", 2, "--guidance", 1)
    assert [one.prompt for one in found] == [["a red star"], ["a blue star"], ["a cross"]]
    how = [(one.negative, one.seed, one.steps, one.guidance) for one in found]
    assert how == [("a circle", 7, 8, 3.0)] * 2 + [(None, 2, None, 1.0)]


def test_a_student_has_learned_what_lines_say_of_guidance(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("a star --n a circle --d 7 --s 8 --l 3")
    (found,) = requests_of("--student", 4, "--prompts", "prompts.txt")
    assert (found.negative, found.seed, found.steps, found.guidance) == (None, 7, None, 0.0)
    error = run(capsys, "--student", 4, "--prompt", "a star", "--negative", "a circle")[1]
    assert "--negative: a student has learned its teacher's guidance and takes none" in error


@pytest.mark.parametrize("kind", ["--prompt", "--given"])
def test_classes_go_with_texts_and_clips(kind):
    (found,) = requests_of("folder", kind, "clip", "--class", "dog", 2, "--count", 2)
    assert (found.label, found.count) == (["dog", "dog", 2, 2], 4)


@pytest.mark.usefixtures("project")
def test_the_setting_is_named(capsys):
    how = ["--class", "dog", "--steps", 2, "--out", "a.png"]
    assert main.main(["sample", *map(str, how)]) == 0
    assert capsys.readouterr().out.endswith("artifacts/train, ddpm, 2 steps, no guidance\n")
    how = [*how, "--guidance", 1, "--interval", -2, 3, "--force"]
    assert main.main(["sample", *map(str, how)]) == 0
    assert "2 steps, guidance 1 for log-SNR -2 to 3" in capsys.readouterr().out


def test_other_weights_are_refused(project, capsys):
    assert run(capsys, "--class", "dog", "--steps", 1, "--out", "a.png")[0] == 0
    shutil.copy(project / "clips/model.safetensors", "artifacts/train/model.safetensors")
    code, error = run(capsys, "--like", "a.png", "--out", "b.png")
    assert code == 1
    assert "model.safetensors" in error or "weights" in error
