"""Requests to stop: the first SIGTERM, SIGINT or SIGHUP is noted, the second ends the process.

SIGHUP comes when the terminal is closed. It stays ignored under ``nohup``.

Python runs its handlers between two of its own instructions, and while the device computes or
compiles there is none for minutes. A signal's number, however, is written to a pipe in the moment
it comes (:func:`signal.set_wakeup_fd`), where a thread waits for it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)
"""Windows has no SIGHUP."""


@dataclass
class Request:
    """Whether the process was asked to stop, and by which signal."""

    by: str | None = None


@contextmanager
def on_signals(name: str) -> Iterator[Request]:
    """Within the body, these signals are noted instead of obeyed; a second one is obeyed.

    Outside the main thread, where Python takes no signals, nothing changes.

    Args:
        name: who says that it was asked, on standard error.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    terminals = [number for number in (1, 2) if os.isatty(number)]
    arguments = (reading, request, name, terminals)
    listener = threading.Thread(target=_listen, args=arguments, daemon=True)
    listener.start()
    pipe_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before = {
        number: signal.signal(number, lambda *_: None)
        for number in SIGNALS
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(pipe_before)
        os.close(writing)
        listener.join()
        os.close(reading)


def _listen(reading: int, request: Request, name: str, terminals: Sequence[int]) -> None:
    while byte := os.read(reading, 1):
        if byte[0] not in SIGNALS:
            continue
        if request.by is not None:
            os._exit(128 + byte[0])
        if signal.Signals(byte[0]).name == "SIGHUP":
            _detach(terminals)
        request.by = signal.Signals(byte[0]).name
        sys.stderr.write(
            f"{name}: {request.by}: finishing this step and writing a checkpoint; "
            "a second signal ends the process at once\n"
        )
        sys.stderr.flush()


def _detach(descriptors: Sequence[int]) -> None:
    """Discard what is printed from now on: a write to a terminal that was closed is an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
