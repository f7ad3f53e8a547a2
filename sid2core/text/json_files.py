"""JSON files in the folders of text encoders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sid2core import stand_ins
from sid2core.text.errors import TextError


def read(path: Path, cure: str) -> dict[str, Any]:
    """The object in a JSON file; ``cure`` ends the message about another content.

    Raises:
        FileNotFoundError: there is no file.
        TextError: it cannot be read, or is no object.
    """
    stand_ins.check_file(path, TextError)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path} cannot be read as JSON ({error}); {cure}"
        raise TextError(msg) from error
    if not isinstance(value, dict):
        msg = f"{path} is no JSON object; {cure}"
        raise TextError(msg)
    return value
