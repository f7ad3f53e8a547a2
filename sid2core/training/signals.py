"""Asked to stop: the first SIGTERM or SIGINT is a request, the second ends the process at once.

Python runs its handlers between two of its own instructions, and while the device computes or
compiles there is none for minutes. A signal's number, however, is written to a pipe in the moment
it comes (:func:`signal.set_wakeup_fd`), where a thread waits for it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass
class Request:
    """Whether the process was asked to stop, and by which signal."""

    by: str | None = None


@contextmanager
def on_signals(name: str) -> Iterator[Request]:
    """Within the body, SIGTERM and SIGINT are noted instead of obeyed; a second one is obeyed.

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
    listener = threading.Thread(target=_listen, args=(reading, request, name), daemon=True)
    listener.start()
    pipe_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(pipe_before)
        os.close(writing)
        listener.join()
        os.close(reading)


def _listen(reading: int, request: Request, name: str) -> None:
    while byte := os.read(reading, 1):
        if byte[0] not in SIGNALS:
            continue
        if request.by is not None:
            os._exit(128 + byte[0])
        request.by = signal.Signals(byte[0]).name
        sys.stderr.write(
            f"{name}: {request.by}: finishing this step and writing a checkpoint; "
            "a second signal ends the process at once\n"
        )
        sys.stderr.flush()
