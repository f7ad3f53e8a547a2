"""A copy of the project under git and DVC, for tests of DVC's own commands."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests import tiny

_MARK = "DVC_PROJECT_OF_TEST"
_USER = "[user]\nname = test\nemail = test@localhost\n[init]\ndefaultBranch = main\n"


@dataclass(frozen=True)
class Project:
    """A folder, and the environment of the commands that run in it."""

    folder: Path
    environment: dict[str, str]

    def run(self, line, code=0):
        """Run a command to its end; returns what it printed."""
        done = subprocess.run(
            line.split(),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, line, log):
        """Start a command in a session of its own; what it prints is appended to ``log``."""
        with log.open("a", encoding="utf-8") as file:
            return subprocess.Popen(
                line.split(),
                cwd=self.folder,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def commit(self):
        """Make the folder a git repository with one commit."""
        self.run("git init")
        self.run("git add --all")
        self.run("git commit --quiet --message=tiny")

    def experiments(self):
        """The references of finished experiments, and of failed ones in the queue."""
        refs = self.run("git for-each-ref --format=%(refname) refs/exps").split()
        return [ref for ref in refs if not ref.startswith(("refs/exps/exec", "refs/exps/celery"))]

    def processes(self):
        """All living processes that commands of this project started, directly or not."""
        return [one for one in psutil.process_iter() if _mark(one) == str(self.folder)]


def _mark(process):
    try:
        return process.environ().get(_MARK)
    except psutil.Error:  # it has ended, or is another user's
        return None


def copy(folder, **environment):
    """Copy the project's files, without what git ignores; params.yaml may be written after."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=tiny.ROOT, capture_output=True, text=True, check=True)
    for name in files.stdout.strip("\0").split("\0"):
        if (tiny.ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(tiny.ROOT / name, folder / name)
    beside = folder.with_name(f"{folder.name}-dvc")
    beside.mkdir()
    (beside / "gitconfig").write_text(_USER, encoding="utf-8")
    variables = tiny.environment(
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        PYTHONPATH="",
        DVC_SITE_CACHE_DIR=str(beside / "site"),
        GIT_CONFIG_GLOBAL=str(beside / "gitconfig"),
        **{_MARK: str(folder)},
        **environment,
    )
    variables.pop("CUDA_VISIBLE_DEVICES", None)
    return Project(folder, variables)
