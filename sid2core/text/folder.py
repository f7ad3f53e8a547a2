"""The folder of a fitted text encoder: written once, copied beside models, loaded by name.

``encoder.json`` has the kind, its parameters and the encoder's provenance; the other files are the
kind's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sid2core import atomic, config
from sid2core.text import json_files
from sid2core.text.errors import TextError
from sid2core.text.protocol import TextEncoder, TextEncoderSpec

FILE = "encoder.json"


def spec(settings: config.Text) -> TextEncoderSpec:
    """The encoder that the section ``text`` describes."""
    made: TextEncoderSpec = settings.encoder.build(max_tokens=settings.max_tokens)
    return made


def fit(settings: config.Text, captions: Iterable[str], folder: Path) -> TextEncoder:
    """Fit the encoder of the section ``text`` to captions and write it into ``folder``.

    Args:
        settings: the section.
        captions: of the train split, read once, in any order.
        folder: an empty folder, which is made if needed.

    Raises:
        TextError: files that the encoder needs are missing or wrong.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoder = spec(settings).fit(captions, folder)
    described = {
        "encoder": settings.encoder.model_dump(),
        "max_tokens": settings.max_tokens,
        "provenance": dict(encoder.provenance),
    }
    atomic.write_json(folder / FILE, described)
    return encoder


def load(folder: Path) -> TextEncoder:
    """The encoder that :func:`fit` wrote.

    Raises:
        TextError: a file is missing or damaged, or the encoder is of a kind that is not known.
    """
    described = _read(folder / FILE)
    try:
        settings = config.Encoder.model_validate(described["encoder"])
        made: TextEncoderSpec = settings.build(max_tokens=described["max_tokens"])
        return made.load(folder, described["provenance"])
    except (KeyError, TypeError, ValidationError) as error:
        kind = described.get("encoder")
        name = kind.get("name") if isinstance(kind, dict) else None
        msg = (
            f"{folder / FILE} describes an encoder {name!r} that cannot be made ({error}); if it "
            "is a plugin's, name its module in plugins, else restore the file"
        )
        raise TextError(msg) from error


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return json_files.read(path, "restore it, or run the stage text again")
    except FileNotFoundError:
        msg = (
            f"{path} not found; expected the folder of a text encoder, as the stage text writes it"
        )
        raise TextError(msg) from None
