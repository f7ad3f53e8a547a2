import errno
import os
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import version
from types import ModuleType

import numpy as np
import pytest

import sid2core
from sid2core import atomic
from sid2core.cli import main
from sid2core.config import presets
from sid2core.errors import Sid2Error
from tests import tiny

INCEPTION = "data/pt_inception-2015-12-05-6726825d.pth"
COMMITTED = (tiny.ROOT / "params.yaml").read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the project's presets and parameters, and one in it."""
    (tmp_path / "params.yaml").write_text(COMMITTED, encoding="utf-8")
    (tmp_path / "conf").symlink_to(tiny.ROOT / "conf", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *arguments):
    """Exit code, lines on stdout, lines on stderr."""
    code = main.main(arguments)
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err.splitlines()


def text(project):
    return (project / "params.yaml").read_text(encoding="utf-8")


def test_a_preset_is_applied_and_the_difference_printed(project, capsys):
    change = presets.change(presets.read("imagenet512-flop-heavy"))
    code, lines, errors = run(capsys, "preset", "imagenet512-flop-heavy")
    assert (code, errors) == (0, [])
    count = len(change.differences)
    assert lines[0] == f"params.yaml: {count} values changed for imagenet512-flop-heavy"
    assert lines[1 : count + 1] == [f"  {line}" for line in change.differences]
    assert lines[count + 1 :] == [
        "data/imagenet/train is not there yet: dvc repro will need it",
        "data/imagenet/val is not there yet: dvc repro will need it",
        f"{INCEPTION} is not there yet: dvc repro will need it",
    ]
    assert text(project) == change.after != COMMITTED
    assert run(capsys, "preset", "imagenet512-flop-heavy")[1][0] == (
        "params.yaml has the values of imagenet512-flop-heavy already"
    )
    assert run(capsys, "preset", "digits")[0] == 0
    assert text(project) == COMMITTED


def test_existing_data_are_not_asked_for(project, capsys):
    for split in ("train", "val"):
        (project / "data" / "imagenet" / split).mkdir(parents=True)
    (project / INCEPTION).touch()
    _, lines, _ = run(capsys, "preset", "imagenet256-small", "--dry-run")
    assert not [line for line in lines if "not there yet" in line]


def test_a_dry_run_prints_the_same_and_writes_nothing(project, capsys):
    code, dry, _ = run(capsys, "preset", "tiny", "--dry-run")
    assert code == 0
    assert text(project) == COMMITTED
    _, wet, _ = run(capsys, "preset", "tiny")
    assert dry[0] == wet[0].replace("values changed", "values would change")
    assert dry[1:] == wet[1:]


def test_the_table_of_presets(project, capsys):
    code, (heading, *rows), errors = run(capsys, "preset", "--list")
    assert (code, errors) == (0, [])
    assert heading.split() == ["preset", "what", "GFLOPs", "parameters", "published", "FID"]
    assert [row.split()[0] for row in rows] == presets.names()
    (heavy,) = (row for row in rows if row.startswith("imagenet512-flop-heavy"))
    assert heavy.split()[-3:] == ["652.8", "323,481,475", "1.48"]
    assert {len(row) for row in (heading, *rows)} == {len(heading)}
    assert text(project) == COMMITTED


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "imagnet512-small",
            "sid2: no preset 'imagnet512-small'; the nearest is imagenet512-small",
        ),
        ("", "sid2: no preset ''"),
    ],
)
def test_an_unknown_preset_is_one_line_and_exit_code_1(name, words, project, capsys):
    code, lines, (error,) = run(capsys, "preset", name)
    assert (code, lines) == (1, [])
    assert error.startswith(words)


def test_several_problems_are_one_line_too(project, capsys):
    (project / "params.yaml").write_text(COMMITTED.replace("seed: 0", "sead: 0"), encoding="utf-8")
    code, _, (error,) = run(capsys, "preset", "tiny")
    assert code == 1
    assert error.startswith(
        "sid2: params.yaml with conf/tiny.yaml has 2 problem(s): seed: missing; expected integer; "
        "sead: unknown key"
    )


def test_outside_a_project_the_cure_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, (error,) = run(capsys, "preset", "tiny")
    assert code == 1
    assert error.endswith("run from the project's root")


@pytest.mark.parametrize(
    "arguments", [[], ["preset"], ["preset", "tiny", "--list"], ["prest", "tiny"], ["preset", "-x"]]
)
def test_a_misuse_prints_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: sid2")


def test_a_command_is_one_row_and_a_module(monkeypatch, capsys):
    def refuse(options):
        raise Sid2Error(f"{options.where} is too far")

    go = ModuleType("go")
    vars(go).update(arguments=lambda parser: parser.add_argument("where"), run=refuse)
    monkeypatch.setitem(sys.modules, "sid2core.cli.go", go)
    monkeypatch.setattr(main, "COMMANDS", {**main.COMMANDS, "go": "Go."})
    assert run(capsys, "go", "there") == (1, [], ["sid2: there is too far"])


def test_the_installed_script_is_this_one():
    project = tomllib.loads((tiny.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = project["scripts"]["sid2"].partition(":")
    assert getattr(import_module(module), function) is main.main


def test_as_a_module_an_error_has_no_traceback(project):
    done = subprocess.run(
        [sys.executable, "-m", "sid2core.cli.main", "preset", "small"],
        env=tiny.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_a_closed_pipe_is_no_error(project):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "sid2core.cli.main", "preset", "tiny"],
        env=tiny.environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
    assert text(project) != COMMITTED


@pytest.mark.parametrize(
    ("command", "slow"),
    [
        (["--help"], {"pydantic", "ruamel"}),
        (["sample", "--help"], {"pydantic", "ruamel"}),
        (["preset", "tiny"], set()),
    ],
)
def test_nothing_slow_is_imported(project, command, slow):
    code = (
        "import atexit, sys; from sid2core.cli import main as cli; "
        "atexit.register(lambda: print(*{name.split('.')[0] for name in sys.modules})); "
        f"cli.main({command})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=tiny.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    slow = {"jax", "flax", "optax", "pandas", "numpy", "scipy", "dvc"} | slow
    assert "argparse" in loaded
    assert not slow & loaded


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_has_a_module_with_arguments(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main.main([name, "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: sid2 {name} ")
    assert "options:" in said


def test_the_version_is_that_of_the_installed_package(capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"sid2 {sid2core.__version__}\n"
    assert sid2core.__version__ == version("sid2")


def test_a_project_that_cannot_be_written_is_one_line(project, monkeypatch, capsys):
    def refuse(path, text):
        raise PermissionError(errno.EACCES, "Permission denied", f".{path}.tmp")

    monkeypatch.setattr(atomic, "write_text", refuse)
    code, _, (error,) = run(capsys, "preset", "tiny")
    assert code == 1
    assert error.startswith(f"sid2: {project} is not writable (Permission denied); ")
    assert text(project) == COMMITTED


@pytest.mark.parametrize("command", [["samples", "--list"], ["fd", "a.npy", "b.npy"], ["plan"]])
def test_every_command_names_the_root_outside_a_project(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a.npy", "b.npy"):
        np.save(name, np.zeros((2, 8, 8, 1), np.uint8))
    code, _, (error,) = run(capsys, *command)
    assert code == 1
    assert str(tmp_path) in error
    assert error.endswith("run from the project's root")
