"""The loop over DVC's queue, with a queue that only remembers."""

import pytest

from sid2core.studies import planning, runner
from sid2core.studies.errors import StudyError
from sid2core.studies.planning import State
from tests.refusals import refused
from tests.studies import studies


class Queue:
    """Finishes each waiting run at the next look, but the first attempts of some go wrong."""

    def __init__(self, lost=(), failing=(), busy=0):
        self.finished, self.waiting, self.put_names, self.started = set(), [], [], 0
        self.lost, self.failing, self.busy, self.bad = list(lost), set(failing), busy, {}

    def state(self):
        for name in self.waiting if self.started else ():
            if name in self.failing:
                self.bad[name] = "it broke"
            elif name in self.lost:
                self.lost.remove(name)
            else:
                self.finished.add(name)
        self.waiting = [] if self.started else self.waiting
        return State(frozenset(self.finished), frozenset(self.waiting), {})

    def failed(self, names):
        return {name: self.bad[name] for name in names if name in self.bad}

    def remove(self, names):
        for name in names:
            self.bad.pop(name, None)

    def put(self, run, params):
        assert params["seed"] == 0
        if self.busy:
            self.busy -= 1
            raise StudyError("Unable to acquire lock")
        self.started = 0
        self.put_names.append(run.name)
        self.waiting.append(run.name)

    def workers(self):
        return self.started

    def start(self, jobs):
        self.started = jobs


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("SID2_WORK", str(tmp_path))
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(runner, "START_SECONDS", (0.0, 0.0))
    runs = studies.all_runs()

    def make(queue):
        said = []
        runner.run("two", runs, 2, queue, said.append)
        return said

    make.names = [one.name for one in runs]
    return make


def test_every_run_is_queued_once(run):
    queue = Queue()
    said = run(queue)
    assert sorted(queue.put_names) == sorted(run.names)
    assert "6 of 6 runs are finished" in said[-1]


def test_nothing_is_queued_where_all_is_finished(run):
    queue = Queue()
    queue.finished = set(run.names)
    run(queue)
    assert queue.put_names == []


def test_a_task_that_disappeared_is_queued_again(run):
    queue = Queue(lost=run.names[:1])
    said = run(queue)
    assert queue.put_names.count(run.names[0]) == 2
    assert any("no longer in DVC's queue" in line for line in said)


def test_dvc_may_be_busy(run):
    assert any("Unable to acquire lock; trying again" in line for line in run(Queue(busy=2)))


def test_a_run_that_always_fails_ends_the_command_with_its_log(run):
    queue = Queue(failing=run.names[:1])
    with refused(StudyError, run.names[0], f"failed {planning.ATTEMPTS} times", "dvc queue logs"):
        run(queue)
    assert queue.put_names.count(run.names[0]) == planning.ATTEMPTS
