"""Progress of long work: a bar with rate and time left on a terminal, sparse lines in a log.

Each bar of a stage is also reported to ``sid2 watch`` (:mod:`sid2core.pipeline.running`).
"""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from sid2core.pipeline import running

_LOG_SECONDS = 15.0
_LOG_SHARE = 0.01


def bar(total: int, description: str, unit: str, initial: int = 0, *, shown: bool = True) -> tqdm:
    """A progress bar over ``total`` units, of which ``initial`` were done by an earlier run.

    One that is not ``shown`` prints nothing: of several processes one speaks. Neither does any
    where ``TQDM_DISABLE`` is set.
    Where standard error is no terminal it prints lines instead of redrawing: every 15 seconds, and
    in long work whenever another hundredth of the time so far has passed.
    """
    # An explicit False would overrule the environment.
    silent = {} if shown else {"disable": True}
    report = running.Report(description, unit, total, initial) if shown else None
    if sys.stderr.isatty():
        return _Bar(
            report,
            total=total,
            desc=description,
            unit=unit,
            initial=initial,
            dynamic_ncols=True,
            **silent,
        )
    return _Lines(
        report,
        total=total,
        desc=description,
        unit=unit,
        initial=initial,
        ncols=100,
        ascii=True,
        mininterval=_LOG_SECONDS,
        maxinterval=_LOG_SECONDS,
        **silent,
    )


class _Bar(tqdm):
    """tqdm that tells a report of its progress, also where it prints nothing."""

    def __init__(self, report: running.Report | None, **settings: Any):
        self._report = report
        super().__init__(**settings)

    def update(self, n: float = 1) -> bool | None:
        """Advance by ``n`` units."""
        if self._report is not None:
            self._report.add(n)
        return super().update(n)

    def set_postfix(self, *args: Any, **values: Any) -> None:
        """Show values behind the bar."""
        if self._report is not None:
            self._report.show({key: one for key, one in values.items() if key != "refresh"})
        super().set_postfix(*args, **values)


class _Lines(_Bar):
    """The same, with a newline after each report, for files and pipes."""

    def display(self, *args, **kwargs):  # noqa: ANN002, ANN003, ANN201 (tqdm's own signature)
        """Print, and wait the longer for the next line the longer this takes."""
        elapsed = self.format_dict["elapsed"]
        self.mininterval = self.maxinterval = max(_LOG_SECONDS, _LOG_SHARE * elapsed)
        return super().display(*args, **kwargs)

    @staticmethod
    def status_printer(file):  # noqa: ANN001, ANN205 (tqdm's own signature)
        """Print each state on its own line."""

        def write(text: str) -> None:
            if text.strip():
                print(text, file=file or sys.stderr, flush=True)

        return write
