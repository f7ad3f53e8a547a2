"""A small study, and made-up experiments as DVC keeps them."""

import copy
import functools
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


def all_runs(**changes):
    """All runs of the study; reading the preset takes most of the time, so it is done once."""
    return list(_all_runs(json.dumps(changes)))


@functools.cache
def _all_runs(changes):
    return runs.all_of("two", study(**json.loads(changes)), root=tiny.ROOT)


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


def store(folder, experiments):
    """Store experiments as DVC stores finished ones: name → files, each a commit with a reference.

    Git's fast-import makes all of them in one process.
    """
    head = git(folder, "rev-parse", "HEAD")
    stream = []
    for name, files in experiments.items():
        reference = f"refs/exps/{head[:2]}/{head[2:]}/{name}"
        stream += [f"commit {reference}", "committer test <test@localhost> 0 +0000"]
        stream += [f"data {len(name)}", name, f"from {head}"]
        for path, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            stream += [f"M 100644 inline {path}", f"data {len(text.encode())}", text]
    git(folder, "fast-import", "--quiet", text="\n".join([*stream, ""]))
