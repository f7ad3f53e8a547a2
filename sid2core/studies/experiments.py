"""Finished experiments, as DVC keeps them: references in Git, and the files of their commits.

DVC writes ``refs/exps/<2 digits>/<38 digits>/<name>`` for each finished experiment, under the
commit that it began from. Other references in ``refs/exps`` are of its queue.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sid2core.studies.errors import StudyError

_REFERENCE = re.compile(r"refs/exps/([0-9a-f]{2})/([0-9a-f]{38})/(.+)")


@dataclass(frozen=True)
class Experiment:
    """A finished experiment.

    Attributes:
        name: as given to ``dvc exp run --name``.
        commit: its own commit.
        baseline: the commit that it began from.
        root: the folder of the project.
    """

    name: str
    commit: str
    baseline: str
    root: Path

    def text(self, path: str) -> str | None:
        """A file of its commit; None where it has none."""
        done = _git(self.root, "show", f"{self.commit}:./{path}")
        return done.stdout if done.returncode == 0 else None

    def commit_of_program(self) -> str:
        """The commit that it began from, and whether its program had uncommitted changes."""
        paths = ("sid2core", "stages", "plugins", "dvc.yaml")
        done = _git(self.root, "diff", "--quiet", self.baseline, self.commit, "--", *paths)
        return self.baseline[:12] + (" with uncommitted changes" if done.returncode else "")


def finished(root: Path = Path()) -> dict[str, Experiment]:
    """All finished experiments by name; of equal names the newest.

    Raises:
        StudyError: the folder is not in a Git repository with a commit.
    """
    form = "--format=%(objectname) %(refname)"
    listed = git(root, "for-each-ref", "--sort=committerdate", form, "refs/exps")
    found = {}
    for line in listed.splitlines():
        commit, _, reference = line.partition(" ")
        if match := _REFERENCE.fullmatch(reference):
            found[match[3]] = Experiment(match[3], commit, match[1] + match[2], root)
    return found


def check_repository(root: Path = Path()) -> None:
    """Refuse a folder without what ``dvc exp run`` needs.

    Raises:
        StudyError: there is no commit, or Git does not know who commits.
    """
    git(root, "rev-parse", "HEAD")
    for key in ("user.name", "user.email"):
        if _git(root, "config", key).returncode:
            msg = f"Git has no {key}, which DVC's experiments need; run `git config {key} VALUE`"
            raise StudyError(msg)


def git(root: Path, *arguments: str) -> str:
    """What a Git command prints.

    Raises:
        StudyError: it fails.
    """
    done = _git(root, *arguments)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        msg = f"git {arguments[0]} failed in {root.absolute()} ({lines[0]}); studies need a Git "
        raise StudyError(f"{msg}repository with a commit")
    return done.stdout


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
    )
