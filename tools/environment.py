"""What must be right before anything is installed: the version of Python, and git.

Run by the Makefile with whatever Python it finds, so this file is written for old versions, too.
"""

import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def python_problem(version, project):
    """Why this version of Python will not do, or None; ``project`` is pyproject.toml's text."""
    low, high = re.findall(r"\d+\.\d+", re.search(r'requires-python = "(.*)"', project).group(1))
    found = f"{version[0]}.{version[1]}"
    if numbers(low) <= version[:2] < numbers(high):
        return None
    return (
        f"Python {found} was found; expected {low} or later, before {high}. Name another one: "
        f"make setup PYTHON=python{low}"
    )


def numbers(text):
    """The version "3.11" as (3, 11)."""
    return tuple(int(part) for part in text.split("."))


def git_problem(root):
    """Why git does not work in this folder, or None. A folder without git, or no git, is fine."""
    if "dubious ownership" in git(root, "rev-parse", "--git-dir")[1]:
        return (
            f"{root} belongs to another user, so git and DVC refuse it. If you trust it: "
            f"git config --global --add safe.directory {root}"
        )
    return None


def git_remark(root):
    """What a user should know before `dvc exp run`, or None."""
    if git(root, "rev-parse", "--git-dir")[0] != 0:
        return None
    if all(git(root, "config", key)[0] == 0 for key in ("user.name", "user.email")):
        return None
    return (
        "git has no user.name and user.email; `dvc repro` works, `dvc exp run` may stop with "
        "'unexpected error'. Set them: git config --global user.name NAME; "
        "git config --global user.email ADDRESS"
    )


def git(root, *words):
    """The exit code of a git command and what it printed on standard error."""
    environment = dict(os.environ, LC_ALL="C")
    try:
        process = subprocess.Popen(
            ("git",) + words,
            cwd=root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )
    except OSError:
        return 127, ""
    _, errors = process.communicate()
    return process.returncode, errors


def main():
    """Stop with a sentence, or print a remark and go on."""
    with open(os.path.join(ROOT, "pyproject.toml")) as file:
        problem = python_problem(sys.version_info, file.read()) or git_problem(ROOT)
    if problem:
        sys.exit(problem)
    remark = git_remark(ROOT)
    if remark:
        sys.stderr.write(f"note: {remark}\n")


if __name__ == "__main__":
    main()
