import os
import pty
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from sid2core.training import signals
from tests import tiny

WAITS = """
import signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests may run under nohup, which children inherit
from sid2core.training import signals as stopping
with stopping.on_signals("toy") as request:
    print("ready", flush=True)
    {body}
print("by", request.by, flush=True)
"""
LOOPS = "while request.by is None: time.sleep(0.01)"
# In one call of C, which returns to no Python instruction for a minute.
COMPUTES = "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire(timeout=60)"


@contextmanager
def start(body):
    with subprocess.Popen(
        [sys.executable, "-c", WAITS.format(body=body)],
        env=os.environ | {"PYTHONPATH": str(tiny.ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def _not_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_the_first_signal_is_a_request(number):
    with start(LOOPS) as process:
        process.send_signal(number)
        printed, log = process.communicate(timeout=30)
    assert process.returncode == 0
    assert printed == f"by {number.name}\n"
    assert log.startswith(f"toy: {number.name}: finishing this step and writing a checkpoint")


@pytest.mark.parametrize("second", signals.SIGNALS)
def test_the_second_ends_the_process_at_once_whatever_it_computes(second):
    with start(COMPUTES) as process:
        process.send_signal(signal.SIGTERM)
        assert "toy: SIGTERM" in process.stderr.readline()
        since = time.monotonic()
        process.send_signal(second)
        printed, _ = process.communicate(timeout=30)
    assert time.monotonic() - since < 20, "it waited for what it computes"
    assert process.returncode == 128 + second
    assert printed == ""


def test_a_closed_terminal_is_a_request_and_what_is_printed_later_is_no_error(tmp_path):
    done = tmp_path / "done"
    prints = "print('lost', flush=True); sys.stderr.write('lost')"
    body = f"{LOOPS}\n    {prints}; open({str(done)!r}, 'w').write(request.by)"
    controls = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
    terminal, inside = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", controls + WAITS.format(body=body)],
        env=os.environ | {"PYTHONPATH": str(tiny.ROOT)},
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    ) as process:
        os.close(inside)
        read = b""
        while not read.endswith(b"\n"):  # else its write may not have returned yet
            read += os.read(terminal, 100)
        assert read == b"ready\r\n"
        os.close(terminal)
        assert process.wait(timeout=30) == 0
    assert done.read_text() == "SIGHUP"


def test_under_nohup_a_closed_terminal_is_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.on_signals("toy") as request:
            signal.raise_signal(signal.SIGHUP)
            time.sleep(0.05)
        assert request.by is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in signals.SIGNALS]
    requests = []

    def fails():
        with signals.on_signals("toy") as request:
            requests.append(request)
            assert signal.getsignal(signal.SIGTERM) not in before
            signal.raise_signal(signal.SIGTERM)
            raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            fails()
    assert [request.by for request in requests] == ["SIGTERM"] * 3
    assert [signal.getsignal(number) for number in signals.SIGNALS] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_other_signals_are_not_a_request():
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    try:
        with signals.on_signals("toy") as request:
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1]
    assert request.by is None


def test_outside_the_main_thread_nothing_changes():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with signals.on_signals("toy") as request:
            seen.append((request.by, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, before)]
