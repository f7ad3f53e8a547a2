"""The queue of drawings: one thread per model draws one request after another.

So a model that compiles keeps neither the page nor the other models waiting. A job keeps only its
newest state, however slowly its client reads, so memory is bounded by the number of jobs.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sid2core.errors import Sid2Error, message

WAITING = 64
"""Jobs that may wait for one model."""
_log = logging.getLogger(__name__)

Update = Callable[[dict[str, Any]], None]
"""Publishes the state of a job; raises :class:`Cancelled` once nobody waits for it."""
Work = Callable[[Update], dict[str, Any]]
"""Draws; returns the last state."""


class Cancelled(Exception):
    """The client of a job has gone."""


class Full(Sid2Error):
    """Too many jobs wait."""


@dataclass(eq=False)
class Job:
    """One drawing.

    Attributes:
        work: what is to be done, in the thread of its model.
        loop: where its client waits.
    """

    work: Work
    loop: asyncio.AbstractEventLoop
    _state: dict[str, Any] = field(default_factory=lambda: {"event": "waiting"})
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for it."""
        return self._cancelled.is_set()

    async def next(self, seconds: float) -> dict[str, Any] | None:
        """The newest state, once it has changed; None if it has not within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return None
        self._changed.clear()
        return self._state

    def update(self, state: dict[str, Any]) -> None:
        """Replace the state; called in the thread of the model.

        Raises:
            Cancelled: nobody waits for it.
        """
        if self.cancelled or self.loop.is_closed():
            raise Cancelled
        self.loop.call_soon_threadsafe(self._replace, state)

    def _replace(self, state: dict[str, Any]) -> None:
        self._state = state
        self._changed.set()

    def run(self) -> None:
        """Do the work; an error is its last state."""
        try:
            self.update({"event": "preparing"})
            self.update(self.work(self.update) | {"event": "done"})
        except Cancelled:
            pass
        except Sid2Error as error:
            self._end(message(error).replace("\n", " "))
        except Exception as error:  # the thread has to go on with the next job
            _log.exception("a drawing failed")
            self._end(f"the drawing failed ({type(error).__name__}); the server's log has more")

    def _end(self, sentence: str) -> None:
        if not self.cancelled:
            self.update({"event": "error", "message": sentence})


class Worker:
    """The thread of one model."""

    def __init__(self, name: str):
        self._jobs, self._ready = deque[Job](), threading.Condition()
        self._running: Job | None = None
        threading.Thread(target=self._run, name=f"draw {name}", daemon=True).start()

    def submit(self, job: Job) -> None:
        """Put a job at the end of the queue.

        Raises:
            Full: too many wait.
        """
        with self._ready:
            self._jobs = deque(one for one in self._jobs if not one.cancelled)
            if len(self._jobs) >= WAITING:
                msg = f"{WAITING} drawings wait already; try again later"
                raise Full(msg)
            self._jobs.append(job)
            self._ready.notify()

    def ahead(self, job: Job) -> int:
        """How many jobs are drawn before this one."""
        with self._ready:
            waiting = [one for one in self._jobs if not one.cancelled]
            if job not in waiting:
                return 0
            return waiting.index(job) + (self._running is not None)

    def _run(self) -> None:
        while True:
            with self._ready:
                while not self._jobs:
                    self._ready.wait()
                self._running = self._jobs.popleft()
            if not self._running.cancelled:
                self._running.run()
            self._running = None


class Pace:
    """Whether it is time for the next picture: at most so many in a second."""

    def __init__(self, seconds: float = 0.1):
        self._seconds, self._last = seconds, -1.0

    def due(self) -> bool:
        """Whether the last time this was true is long enough ago."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True
