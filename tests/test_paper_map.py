"""The evidence named in docs/paper-map.md exists: each file, and a test for each word of -k."""

import re
import subprocess
import sys

import pytest

from tests import tiny

ROWS = re.findall(r"^\|.*\|$", (tiny.ROOT / "docs/paper-map.md").read_text("utf-8"), re.MULTILINE)
NAMED = re.compile(r'`([\w/]+\.py)(?: -k (?:"(\w+(?: or \w+)*)"|(\w+)))?`')


def evidence():
    """Each file with each word of its -k: empty where the whole file is the evidence."""
    return {
        (path if "/" in path else f"tests/diffusion/{path}", word)
        for row in ROWS
        for path, several, one in NAMED.findall(row.split("|")[-2])
        for word in (several or one).split(" or ")
    }


def test_every_row_is_understood():
    """Written otherwise, a row would escape the check below."""
    assert len(evidence()) > 30
    for row in ROWS:
        assert row.count(" -k ") == sum(bool(a or b) for _, a, b in NAMED.findall(row)), row


@pytest.mark.slow
def test_every_row_selects_a_test():
    files = sorted({path for path, _ in evidence()})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "", *files]
    done = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [line.partition("::")[::2] for line in done.stdout.splitlines() if "::" in line]
    empty = {
        (path, word)
        for path, word in evidence()
        if not any(path == file and word in name for file, name in found)
    }
    assert not empty, f"docs/paper-map.md names tests that are not there: {sorted(empty)}"
