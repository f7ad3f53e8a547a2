"""``sid2 preset --for`` from the data to the parameters; the machine's speed is given."""

import shutil

import pytest
from PIL import Image

from sid2core import config
from sid2core.cli import main
from sid2core.plan.tailored import speed
from sid2core.plan.tailored.speed import Machine
from tests import tiny


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copytree(tiny.ROOT / "conf", tmp_path / "conf")
    shutil.copyfile(tiny.ROOT / "params.yaml", tmp_path / "params.yaml")
    for name in ("cat", "dog"):
        (tmp_path / "My pets" / name).mkdir(parents=True)
        for index in range(10):
            Image.new("RGB", (50, 40), (index, 0, 0)).save(tmp_path / f"My pets/{name}/{index}.png")
    monkeypatch.setattr(speed, "here", lambda _: Machine("cpu", 4e10, 2**34, "float32", 2, "test"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *words):
    code = main.main(["preset", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_preset_for_a_folder_is_written_set_and_explained(project, capsys):
    code, out, err = run(capsys, "--for", "My pets", "--time", "30m")
    assert (code, err) == (0, "")
    assert "data: 20 images, read by the source folder" in out
    assert "  conditional on cat, dog; the smallest class has 10 images" in out
    assert "conf/my-pets.yaml is written" in out
    params = config.read(project / "params.yaml")
    assert params.data.source.settings.path == str(project / "My pets")
    assert run(capsys, "my-pets")[1].startswith("params.yaml has the values of my-pets already")
    assert run(capsys, "digits")[0] == 0
    assert (project / "params.yaml").read_bytes() == (tiny.ROOT / "params.yaml").read_bytes()


def test_files_that_cannot_be_decoded_are_counted(project, capsys):
    (project / "My pets/cat/torn.png").write_bytes(b"no picture")
    out = run(capsys, "--for", "My pets", "--dry-run")[1]
    assert "  1 of 21 images that were tried cannot be decoded; `dvc repro prepare` lists" in out


@pytest.mark.slow
def test_a_device_that_is_elsewhere_and_a_size_of_ones_own(project, capsys):
    words = ("--for", "My pets", "--device", "h100", "--size", "16", "--name", "pets-16")
    assert run(capsys, *words)[0] == 0
    params = config.read(project / "params.yaml")
    assert (params.data.image_size, params.model.compute_dtype) == (16, "bfloat16")


def test_a_dry_run_writes_no_file(project, capsys):
    before = {path: path.read_bytes() for path in project.rglob("*.yaml")}
    code, out, _ = run(capsys, "--for", "My pets", "--dry-run")
    assert code == 0
    assert "would change for my-pets" in out
    assert "is written" not in out
    assert {path: path.read_bytes() for path in project.rglob("*.yaml")} == before


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("--for", "My cats"), "--for"),
        (("--for", "My pets", "--time", "10s"), "--time"),
        (("--for", "My pets", "--name", "digits"), "--name"),
        (("digits", "--time", "1h"), "--for"),
    ],
)
def test_what_cannot_be_made_is_one_line_and_changes_nothing(project, capsys, words, key):
    code, _, err = run(capsys, *words)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert key in err
    assert (project / "params.yaml").read_bytes() == (tiny.ROOT / "params.yaml").read_bytes()
    assert sorted(project.glob("conf/*.yaml")) == sorted(
        project / "conf" / path.name for path in (tiny.ROOT / "conf").glob("*.yaml")
    )


def test_a_time_without_a_unit_is_refused(project, capsys):
    with pytest.raises(SystemExit):
        main.main(["preset", "--for", "My pets", "--time", "30"])
    assert "'30' is not a time such as 30m, 2h or 1d" in capsys.readouterr().err
