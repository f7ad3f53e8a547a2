"""A small study, and made-up experiments as DVC keeps them."""

import copy
import json
import subprocess

from sid2core.studies import runs
from sid2core.studies.study import Study
from tests import tiny

STUDY = {
    "title": "Two losses",
    "source": "Figure 13.",
    "scale": "Digits, for a test.",
    "preset": "tiny",
    "variants": {
        "sigmoid": {"diffusion.loss.name": "sigmoid"},
        "edm": {"diffusion.loss.name": "edm"},
    },
    "seeds": [0, 1, 2],
    "measure": [{"name": "fd", "path": "reports/evaluate/metrics.json:base.fd_eval"}],
    "claims": [{"words": "Sigmoid is better.", "order": ["sigmoid", "edm"]}],
}


def raw(**changes):
    """The study as read from YAML, with other values of some keys."""
    return copy.deepcopy(STUDY) | changes


def study(**changes):
    return Study.model_validate(raw(**changes))


def all_runs(name="two", **changes):
    return runs.all_of(name, study(**changes), root=tiny.ROOT)


def git(folder, *arguments, text=None):
    """What a Git command prints; the repository has an identity of its own."""
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    done = subprocess.run(
        ["git", *identity, *arguments],
        cwd=folder,
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def repository(folder):
    """A Git repository with one commit; returns the commit."""
    git(folder, "init", "--quiet")
    git(folder, "commit", "--quiet", "--allow-empty", "--message=first")
    return git(folder, "rev-parse", "HEAD")


def experiment(folder, name, files):
    """Store files as DVC stores a finished experiment: a commit that a reference names."""
    head = git(folder, "rev-parse", "HEAD")
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / path).write_text(text, encoding="utf-8")
        git(folder, "add", "--force", path)
    tree = git(folder, "write-tree")
    commit = git(folder, "commit-tree", tree, "-p", head, text=name)
    git(folder, "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}", commit)
