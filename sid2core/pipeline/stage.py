"""How a stage script starts and how it fails: parameters first, logging, errors with their cure."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from sid2core import config, console
from sid2core.errors import Sid2Error, message, of_system
from sid2core.pipeline import running, workdir


def run(name: str, main: Callable[[Any], None], read: Callable[[], Any] = config.read) -> None:
    """Read ``params.yaml``, run the stage; an error a user can cure ends it in a few lines.

    Anything else keeps its traceback: it is a defect of the program.
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
        workdir.prune()
        with running.stage(name):
            main(read())
    except Sid2Error as error:
        sys.exit(f"{name}: {message(error)}")
    except OSError as error:
        line = of_system(error)
        if line is None:
            raise
        sys.exit(f"{name}: {line}")
