"""The parameter ``plugins``: modules outside the package that register kinds of their own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from sid2core.config.section import ParamsError


def load(names: Any) -> None:
    """Import the modules, so that the kinds they register are known when parameters are checked.

    Modules of the folder where the program runs are found, such as ``plugins.mine`` in
    ``plugins/mine.py``. Anything but a list of names is left to the check of the parameters.

    Raises:
        ParamsError: a module does not exist, or fails while it is imported.
    """
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return
    here = str(Path.cwd())
    if names and here not in sys.path:
        sys.path.append(here)
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # code of the user, which may fail in any way
            msg = (
                f"plugins: cannot import {name!r} from {here} "
                f"({type(error).__name__}: {error}); name a module that can be imported, such as "
                "plugins.mine for plugins/mine.py"
            )
            raise ParamsError(msg) from error
