"""Who does the work: this process, processes of this machine, or a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from sid2core.data.errors import DataError

Job = TypeVar("Job")
Result = TypeVar("Result")
_AHEAD = 2
"""Jobs handed out for each worker: one that it does and one that waits, never all at once."""
_DASK_SECONDS = 20


@dataclass(frozen=True)
class Workers:
    """How many processes work, or a Dask scheduler whose workers do."""

    count: int | None = None
    """None is one per core."""
    dask_address: str | None = None


def spread(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    workers: Workers,
) -> Iterator[Result]:
    """``work(job)`` of every job, in the order in which they come to an end.

    Args:
        work: a function of a module, so that it can be pickled by name.
        jobs: handed out, and pickled, as workers come free.
        workers: never more than there are jobs; a single one is this process itself.

    Raises:
        DataError: a worker died, or there is no Dask scheduler at the address.
    """
    count = min(workers.count or _cores(), len(jobs))
    if workers.dask_address is None and count <= 1:
        yield from map(work, jobs)
        return
    address = workers.dask_address
    chosen = _processes(count) if address is None else _dask(address)
    with chosen as (executor, working):
        pending: set[Future[Result]] = set()
        for job in jobs:
            pending.add(executor.submit(work, job))
            if len(pending) >= _AHEAD * working:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from map(_result, done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from map(_result, done)


def _cores() -> int:
    """Cores that this process may use; not every system can tell them from all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _result(future: Future[Result]) -> Result:
    try:
        return future.result()
    except BrokenProcessPool as error:
        msg = (
            "a process that decodes images died, most likely for lack of memory; finished shards "
            "are kept: lower runtime.workers or data.row_group_records and run again"
        )
        raise DataError(msg) from error


@contextmanager
def _processes(count: int) -> Iterator[tuple[Executor, int]]:
    # A fork would copy whatever threads and locks the libraries here hold.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent)
    try:
        yield executor, count
    finally:
        executor.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Let this process end when the one that started it is killed; it would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def _dask(address: str) -> Iterator[tuple[Executor, int]]:
    try:
        from distributed import Client  # an extra: most machines do without
    except ImportError as error:
        msg = "runtime.dask_address is set, but Dask is not installed: pip install 'sid2[dask]'"
        raise DataError(msg) from error
    try:
        client = Client(address, timeout=_DASK_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        msg = f"no Dask scheduler answers at runtime.dask_address {address} ({error})"
        raise DataError(f"{msg}; start one (dask scheduler), or set the key to null") from error
    with client:
        workers = sum(client.nthreads().values())
        if not workers:
            msg = f"the Dask scheduler at {address} has no worker; start some (dask worker)"
            raise DataError(msg)
        yield client.get_executor(), workers
