"""The check before anything is installed, with any Python."""

import ast
import subprocess
import sys

import pytest

from tests import tiny
from tools import environment

PROJECT = (tiny.ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    return str(tmp_path)


def test_this_python_will_do():
    assert environment.python_problem(tuple(sys.version_info), PROJECT) is None


@pytest.mark.parametrize("version", [(3, 6, 15), (3, 10, 13), (4, 0, 0)])
def test_another_version_of_python_is_named_with_the_cure(version):
    problem = environment.python_problem(version, PROJECT)
    assert problem.startswith(f"Python {version[0]}.{version[1]} was found; expected 3.11 or later")
    assert "make setup PYTHON=python3.11" in problem


def test_old_versions_of_python_can_read_the_check():
    ast.parse((tiny.ROOT / "tools/environment.py").read_text(), feature_version=(3, 6))


def test_a_folder_of_another_user_is_named_with_the_cure(monkeypatch, tmp_path):
    fake = tmp_path / "git"
    fake.write_text("#!/bin/sh\necho 'fatal: detected dubious ownership' >&2\nexit 128\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    problem = environment.git_problem(str(tmp_path))
    assert problem.endswith(f"git config --global --add safe.directory {tmp_path}")


def test_a_git_without_identity_is_a_remark(repository):
    assert environment.git_problem(repository) is None
    assert "git config --global user.name NAME" in environment.git_remark(repository)
    for key in ("user.name", "user.email"):
        subprocess.run(["git", "-C", repository, "config", key, "somebody"], check=True)
    assert environment.git_remark(repository) is None


def test_a_folder_without_git_and_a_machine_without_git_are_fine(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment.git_problem(str(tmp_path)) is environment.git_remark(str(tmp_path)) is None
    monkeypatch.setenv("PATH", "")
    assert environment.git_problem(str(tmp_path)) is environment.git_remark(str(tmp_path)) is None
