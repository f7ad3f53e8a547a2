"""Why training cannot go on, in words: what happened, what is kept, what cures it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from sid2core.errors import Sid2Error

_FULL = (errno.ENOSPC, errno.EDQUOT)


class TrainingError(Sid2Error):
    """Training cannot go on."""


class Stopped(TrainingError):
    """Training was asked to stop, and did with all that it had done on disk."""


@contextmanager
def explained(name: str, folder: Path, newest: Callable[[], int | None]) -> Iterator[None]:
    """What ends the body because memory or disk ran out becomes a :class:`TrainingError`.

    Anything else passes as it is.

    Args:
        name: of the run.
        folder: where it keeps its state.
        newest: the step of the newest complete checkpoint.
    """
    try:
        yield
    except Exception as error:
        cure = _cure(error, folder)
        if cure is None:
            raise
        msg = f"{name}: {cure}. {kept(newest())}; the same command goes on from there"
        raise TrainingError(msg) from error


def kept(newest: int | None) -> str:
    """Which checkpoint the same command continues from."""
    if newest is None:
        return "No checkpoint was written yet"
    return f"The last good checkpoint is of step {newest}"


def before_the_rise(calm: int, step: int | None, weights: Path | None) -> str:
    """How to continue after updates that were not finite.

    Args:
        calm: the last step before the norms rose.
        step: the last checkpoint up to there; None if none is left.
        weights: the folder with its weights; None if the run writes none.
    """
    if step is None:
        return (
            f"No checkpoint from before the norms rose (after step {calm}) is left; "
            "runtime.keep_checkpoints and runtime.keep_hours keep more"
        )
    text = f"The last checkpoint before the norms rose (after step {calm}) is of step {step}"
    if weights is None:
        return text
    return f"{text}; to continue from its weights, set train.init_from to {weights.absolute()}"


def _cure(error: BaseException, folder: Path) -> str | None:
    # What writes in the background wraps errors, and its text alone says what they were.
    chain = list(_chain(error))
    for one in chain:
        if getattr(one, "errno", None) in _FULL or "No space left on device" in str(one):
            return (
                f"a disk is full ({first_line(one)}): make room under {folder.absolute()}, keep "
                "fewer checkpoints (runtime.keep_checkpoints, runtime.keep_hours), or move the "
                "folder and name its new place in SID2_WORK"
            )
    for one in chain:
        if isinstance(one, MemoryError) or (
            isinstance(one, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(one)
        ):
            return (
                f"out of memory ({first_line(one)}): lower batch_size, or set runtime.remat to "
                "blocks or full; `sid2 plan` shows what fits"
            )
    return None


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
