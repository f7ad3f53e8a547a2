import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import psutil
import pytest
from distributed import LocalCluster

from sid2core.data.errors import DataError
from sid2core.data.prepare import workers
from sid2core.data.prepare.workers import Workers
from tests import tiny


def square(value: int) -> tuple[int, int]:
    return value * value, os.getpid()


def die(value: int) -> int:
    if value == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def fail(value: int) -> int:
    msg = f"job {value} is bad"
    raise DataError(msg)


class Watched(Sequence):
    """Jobs that know how many of them were taken."""

    taken = 0

    def __len__(self):
        return 100

    def __getitem__(self, index):
        if index >= 100:
            raise IndexError
        self.taken = max(self.taken, index + 1)
        return index


def test_one_worker_is_this_process_and_takes_jobs_one_by_one():
    jobs = Watched()
    stream = workers.spread(square, jobs, Workers(1))
    assert next(stream) == (0, os.getpid())
    assert jobs.taken <= 2


def test_processes_do_every_job_once_and_take_few_ahead():
    jobs = Watched()
    stream = workers.spread(square, jobs, Workers(2))
    first = next(stream)
    assert jobs.taken <= 5
    results = [first, *stream]
    assert sorted(value for value, _ in results) == [value * value for value in range(100)]
    assert os.getpid() not in {pid for _, pid in results}


def test_a_worker_that_dies_is_an_error_with_a_cure():
    with pytest.raises(DataError, match=r"died.*finished shards are kept: lower runtime\.workers"):
        list(workers.spread(die, range(6), Workers(2)))


def test_an_error_of_a_worker_comes_through():
    with pytest.raises(DataError, match="job 0 is bad"):
        list(workers.spread(fail, [0, 0], Workers(2)))


SLOW_POOL = """
import os, time
from sid2core.data.prepare import workers
from tests.data.prepare import test_workers

if __name__ == "__main__":
    jobs = [0, 0]
    for value in workers.spread(test_workers.linger, jobs, workers.Workers(2)):
        pass
"""


def linger(value: int) -> None:
    print(os.getpid(), flush=True)
    time.sleep(60)


def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "pool.py"
    script.write_text(SLOW_POOL)
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, env=tiny.environment(), stdout=subprocess.PIPE) as parent:
        children = [psutil.Process(int(parent.stdout.readline())) for _ in range(2)]
        parent.kill()
    gone, alive = psutil.wait_procs(children, timeout=20)
    assert (len(gone), alive) == (2, [])


def test_nobody_at_the_dask_address(monkeypatch):
    monkeypatch.setattr(workers, "_DASK_SECONDS", 0.2)
    with pytest.raises(DataError, match=r"no Dask scheduler answers at runtime\.dask_address tcp"):
        list(workers.spread(square, [1], Workers(dask_address="tcp://127.0.0.1:1")))


@pytest.mark.filterwarnings("default")  # of the cluster's own, as it comes and goes
def test_a_dask_cluster_does_every_job_once():
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "protocol": "tcp"}
    with LocalCluster(**options, dashboard_address="127.0.0.1:0", host="127.0.0.1") as cluster:
        address = Workers(dask_address=cluster.scheduler_address)
        results = list(workers.spread(square, range(20), address))
    assert sorted(value for value, _ in results) == [value * value for value in range(20)]
