"""A training that ends before a chosen step, as if its process had been killed."""

from dataclasses import replace


class Stopped(BaseException):
    """What no handler may catch."""


def stopping(run, at):
    """The same run, raising :class:`Stopped` instead of its step ``at``."""

    def step(state, batch, index):
        if index == at:
            raise Stopped
        return run.step(state, batch, index)

    return replace(run, step=step)
