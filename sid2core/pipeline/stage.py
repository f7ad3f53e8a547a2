"""How a stage script starts and how it fails: parameters first, logging, errors with their cure."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

from sid2core import console
from sid2core.errors import Sid2Error, message, of_system
from sid2core.pipeline import launch


def run(name: str, main: Callable[[Any], None], read: Callable[[], Any] | None = None) -> None:
    """Read ``params.yaml``, run the stage; an error a user can cure ends it in a few lines.

    Anything else keeps its traceback: it is a defect of the program.

    Args:
        name: the stage.
        main: called with what ``read`` returns.
        read: :func:`sid2core.config.read` if None.
    """
    console.prepare()
    # Importing Orbax leaves a handler behind; without force it would stay the only one.
    logging.basicConfig(
        level=logging.INFO, format=f"{name}: %(message)s", stream=sys.stderr, force=True
    )
    for library in ("jax", "fontTools", "matplotlib"):
        logging.getLogger(library).setLevel(logging.WARNING)
    for library in ("absl", "orbax"):  # tracebacks of Orbax's threads; their errors are raised, too
        logging.getLogger(library).setLevel(logging.CRITICAL)
    try:
        with contextlib.nullcontext() if name in launch.QUICK else _long(name):
            main((read or _params)())
    except Sid2Error as error:
        sys.exit(f"{name}: {message(error)}")
    except OSError as error:
        line = of_system(error)
        if line is None:
            raise
        sys.exit(f"{name}: {line}")


def _params() -> Any:
    from sid2core import config  # not above: `source` starts without it at every command

    return config.read()


@contextlib.contextmanager
def _long(name: str) -> Iterator[None]:
    """Around a stage that may take long: old work is removed, and ``sid2 watch`` lists it."""
    from sid2core.pipeline import running, workdir

    workdir.prune()
    with running.stage(name):
        yield
