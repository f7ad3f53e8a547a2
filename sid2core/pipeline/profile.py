"""Traces of the steps of a run, and the operations that took most time in one.

A trace is a folder in the layout of TensorBoard's profile plugin: ``plugins/profile/<name>/`` with
an ``.xplane.pb``, a ``perfetto_trace.json.gz`` for https://ui.perfetto.dev, and ``operations.csv``.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import pandas as pd

from sid2core import atomic
from sid2core.pipeline import places

FOLDER = "profile"
"""In the work folder of the project: all traces, each in a folder named as its own work."""
TABLE = "operations.csv"
TOP = 20
_log = logging.getLogger(__name__)
Step = Callable[..., Any]


@contextmanager
def of_steps(step: Step, span: tuple[int, int] | None, work: Path, run: str) -> Iterator[Step]:
    """A function that does what ``step`` does and traces some calls of it.

    The device is waited for before and after them, so the trace holds these steps alone. They take
    longer than others do. If the body ends before the last of them, the trace has no table.

    Args:
        step: (state, batch, index) → (state, scalars).
        span: traced are the steps with ``span[0] ≤ index < span[1]``; None traces none.
        work: the work folder of the run; the trace is beside it (:func:`places.beside`).
        run: its name in the log and in the trace.
    """
    if span is None:
        yield step
        return
    first, stop = span
    folder, trace = places.beside(FOLDER, work), ExitStack()
    place: Path | None = None

    def traced_step(state: Any, batch: Any, index: int) -> Any:
        nonlocal place
        if not first <= index < stop:
            return step(state, batch, index)
        if place is None:
            jax.block_until_ready(state)
            place = trace.enter_context(traced(folder, f"steps-{first}-{stop}"))
        with jax.profiler.StepTraceAnnotation(run, step_num=index):
            found = step(state, batch, index)
        if index + 1 == stop:
            jax.block_until_ready(found)
            trace.close()
            _log.info("%s: the trace is in %s\n%s", run, place, summary(place))
        return found

    with trace:
        yield traced_step


@contextmanager
def traced(folder: Path, name: str) -> Iterator[Path]:
    """Trace the body, which must wait for the work that it starts; gives the folder of the files.

    An earlier trace of this name is replaced.
    """
    place = folder / "plugins" / "profile" / name
    shutil.rmtree(place, ignore_errors=True)
    options = jax.profiler.ProfileOptions()
    options.session_id = name
    options.python_tracer_level = 0  # else every Python call is recorded, which slows steps down
    with jax.profiler.trace(folder, create_perfetto_trace=True, profiler_options=options):
        yield place


def summary(place: Path) -> str:
    """The operations of the trace in ``place`` that took most time; written there, too."""
    table = operations(place)
    atomic.write_csv(place / TABLE, table)
    return shown(table)


def operations(place: Path, top: int = TOP) -> pd.DataFrame:
    """The operations of a trace that took most time on the devices, the longest first.

    Time inside a loop or a call counts for the operations in it, not for the loop. Operations of
    one name in one compiled program are one row; times are sums over calls, threads and devices.

    Args:
        place: the folder of the trace's files.
        top: so many rows at most.

    Returns:
        Columns ``operation``, ``program`` (the compiled function), ``calls``, ``milliseconds``,
        ``share`` of all operations' time, and ``source`` (JAX's name of it, where traced).
    """
    (path,) = place.glob("*.xplane.pb")
    events = pd.DataFrame(
        [
            (event.name, event.program, event.source, alone / 1e6)
            for line in _lines(jax.profiler.ProfileData.from_file(str(path)))
            for event, alone in alone_times(line)
        ],
        columns=["operation", "program", "source", "milliseconds"],
    )
    table = events.groupby(["operation", "program"], as_index=False).agg(
        calls=("milliseconds", "size"),
        milliseconds=("milliseconds", "sum"),
        source=("source", "first"),
    )
    table.insert(4, "share", table["milliseconds"] / table["milliseconds"].sum())
    longest = table.sort_values("milliseconds", ascending=False, kind="stable").head(top)
    return longest.round({"milliseconds": 3, "share": 4}).reset_index(drop=True)


def shown(table: pd.DataFrame) -> str:
    """The table of :func:`operations` as text, without empty columns."""
    some = table if any(table["source"]) else table.drop(columns="source")
    formats = {"share": "{:.1%}".format, "milliseconds": "{:.2f}".format}
    return some.to_string(index=False, formatters=formats, max_colwidth=60)


class Event(NamedTuple):
    """An operation that ran once; times in nanoseconds."""

    start: float
    duration: float
    name: str
    program: str = ""
    source: str = ""


def alone_times(events: Iterable[Event]) -> Iterator[tuple[Event, float]]:
    """Each event of one thread or stream with its duration less that of the events inside it."""
    inside: list[tuple[Event, list[float]]] = []
    for event in sorted(events, key=lambda one: (one.start, -one.duration)):
        while inside and _end(inside[-1][0]) <= event.start:
            outer, times = inside.pop()
            yield outer, outer.duration - sum(times)
        if inside:
            inside[-1][1].append(event.duration)
        inside.append((event, []))
    yield from ((outer, outer.duration - sum(times)) for outer, times in reversed(inside))


def _end(event: Event) -> float:
    return event.start + event.duration


def _lines(data: jax.profiler.ProfileData) -> Iterator[list[Event]]:
    """The operations of each stream of an accelerator, or of each thread of the processor.

    Accelerators have planes of their own. Where a plane has the line ``XLA Ops``, its other lines
    show the same work again, by program or by step.
    """
    planes = list(data.planes)
    devices = [
        one for one in planes if one.name.startswith("/device:") and "CUSTOM" not in one.name
    ]
    for plane in devices or planes:
        lines = list(plane.lines)
        for line in [one for one in lines if one.name == "XLA Ops"] or lines:
            yield [
                _event(event, stats)
                for event in line.events
                if "hlo_op" in (stats := dict(event.stats)) or plane in devices
            ]


def _event(event: Any, stats: dict[str, Any]) -> Event:
    whole = str(stats.get("hlo_op", event.name))
    name = whole.partition(" = ")[0].removeprefix("%")  # TPUs write the whole instruction
    program, source = (str(stats.get(key, "")) for key in ("hlo_module", "tf_op"))
    return Event(event.start_ns, event.duration_ns, name, program, source)
