"""Commands of DVC as studies run them."""

import sys

import psutil

from sid2core.studies import queue

LEAVE = """
import subprocess, sys
left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(left.pid)
"""


def test_what_a_command_leaves_in_the_background_is_not_waited_for():
    """`dvc queue start` leaves workers that have its output."""
    code, text = queue.executed([sys.executable, "-c", LEAVE])
    left = psutil.Process(int(text))
    assert code == 0
    assert left.is_running()
    left.kill()


def test_the_exit_code_and_both_outputs_are_returned():
    line = "import sys; print('one'); sys.exit('ERROR: two')"
    code, text = queue.executed([sys.executable, "-c", line])
    assert code == 1
    assert sorted(text.splitlines()) == ["ERROR: two", "one"]
