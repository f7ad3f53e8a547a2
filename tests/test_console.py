"""Streams that are closed, or lack characters, stop no stage and spoil no file."""

import os
import shlex
import subprocess
import sys

import pytest

from tests import tiny

PROGRAM = """
import os
from sid2core import console
console.prepare()
with open("made", "w") as file:
    os.write(1, b"native")
    os.write(2, b"native")
    print("café \\udc80", flush=True)
    file.write("content")
"""


def run(program, *, closed="", **environment):
    command = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(program)} {closed}"
    return subprocess.run(
        ["sh", "-c", command],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tiny.ROOT)} | environment,
        capture_output=True,
        check=False,
    )


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("closed", ["", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_what_is_printed_to_a_closed_stream_ends_in_no_file(closed, tmp_path):
    assert run(PROGRAM, closed=closed).returncode == 0
    assert (tmp_path / "made").read_text() == "content"


def test_a_character_that_a_stream_lacks_is_escaped():
    result = run(PROGRAM, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert result.stdout == b"nativecaf\\xe9 \\udc80\n"


def test_a_full_device_is_one_sentence():
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    program = f"import os; os.chdir({str(tiny.ROOT)!r})\n"
    program += "from sid2core.cli.main import main; raise SystemExit(main(['preset', '--list']))"
    result = run(program, closed=">/dev/full")
    assert (result.returncode, result.stderr) == (
        1,
        b"sid2: cannot write the result: No space left on device\n",
    )
