import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from sid2core.cli import main, watch
from sid2core.pipeline import progress, running


@pytest.fixture
def training(tmp_path, monkeypatch):
    """A stage that runs in a temporary folder, as an experiment of the queue does."""
    place = tmp_path / "temporary"
    (place / "reports/train/samples").mkdir(parents=True)
    (place / "reports/train/curve.csv").write_text("step,loss\n1,9\n2,4\n3,3\n4,2\n5,\n")
    for step, value in ((9, 0), (10, 255)):
        picture = Image.fromarray(np.full((8, 16), value, np.uint8))
        picture.save(place / f"reports/train/samples/{step}.png")
    monkeypatch.setenv("SID2_WORK", str(tmp_path / "work"))
    monkeypatch.chdir(place)
    with running.stage("train"), progress.bar(40, "train", "step") as bar:
        bar.set_postfix(loss="0.25", refresh=False)
        bar.update(40)
        monkeypatch.chdir(tmp_path)
        yield running.listed()[0]


def shown(colours, one=None):
    console = Console(width=80, color_system=colours, force_terminal=colours is not None)
    with console.capture() as capture:
        console.print(watch.view(console))
    return capture.get()


def test_one_look_without_a_terminal_is_plain_text(training, capsys):
    assert main.main(["watch", "--once"]) == 0
    printed = capsys.readouterr().out
    assert "train: step 40 of 40 (100%)" in printed
    assert f"loss 0.25, {training.folder}" in printed
    assert "samples of step 10: " in printed
    assert printed.isascii()
    assert "\x1b" not in printed


@pytest.mark.usefixtures("training")
def test_a_terminal_shows_the_newest_samples_and_the_curve():
    printed = shown("truecolor")
    assert printed.count("▀") == 16 * 8 // 2
    assert "38;2;255;255;255;48;2;255;255;255" in printed
    assert "loss █▁ 2 to 3" in printed


def test_time_left_and_silence(training):
    training.done, training.rate, training.total = 10, 0.5, 100
    training.updated -= 120
    assert ", 2 s/step, 03:00 left, " in watch.line(training)
    assert "last sign 02:00 ago" in watch.line(training)
    training.experiment, training.rate = "puffy\x1b[2J", 12.34
    assert watch.line(training).endswith(r"experiment puffy\x1b[2J")
    assert "12.3 steps/s" in watch.line(training)


def test_a_damaged_picture_and_no_curve_are_no_error(training, tmp_path):
    (tmp_path / "temporary/reports/train/samples/11.png").write_bytes(b"\x89PNG")
    (tmp_path / "temporary/reports/train/curve.csv").unlink()
    assert "cannot be read" in shown("truecolor")


def test_nothing_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SID2_WORK", str(tmp_path))
    assert main.main(["watch", "--once"]) == 0
    assert capsys.readouterr().out == "no stage runs\n"


@pytest.mark.parametrize("value", ["0", "-1", "nan", "1e9"])
def test_an_interval_out_of_range_is_refused(value, capsys):
    with pytest.raises(SystemExit):
        main.main(["watch", "--every", value])
    assert "expected 0.1 to 3600" in capsys.readouterr().err


def test_it_needs_no_jax():
    program = (
        "import sys; from sid2core.cli import main; main.main(['watch', '--once']); "
        "assert 'jax' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
