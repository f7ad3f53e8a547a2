"""Folders of other models that parameters name: whether they are there, and of such images.

They are read when the search begins, after the training; what is wrong is found before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from sid2core.config.data import Shape
from sid2core.config.named_samplers import OwnGuidance
from sid2core.config.params import Params
from sid2core.config.search import NULL, TRAINED, USUAL
from sid2core.config.training import Ema

_CONFIG = "config.json"
_FILES = (_CONFIG, "model.safetensors")
"""Of a model's folder (:mod:`sid2core.models.network`)."""


def check(params: Params, shape: Shape | None) -> Iterator[str]:
    """What is wrong with the folders of ``guidance_search`` and ``eval.samplers``.

    Args:
        params: names them.
        shape: of what the model draws; None where only the source knows it.
    """
    for key, name in _named(params):
        folder = Path(name)
        if folder.parts[:1] == ("artifacts",):  # an earlier stage makes it
            continue
        if not folder.is_dir():
            yield f"{key}: found {name!r}, which is no folder; expected that of a model"
            continue
        missing = [one for one in _FILES if not (folder / one).is_file()]
        if missing:
            yield (
                f"{key}: found {name!r}, which has no {missing[0]}; expected a copy of a folder "
                "that train wrote: correct the path"
            )
        elif shape is not None:
            yield from _other_images(key, folder, shape)


def _named(params: Params) -> Iterator[tuple[str, str]]:
    """Keys and the folders that they name."""
    for key, one in _models(params):
        if isinstance(one, str) and one not in (NULL, TRAINED, USUAL):
            yield key, one


def _models(params: Params) -> Iterator[tuple[str, int | str | Ema]]:
    for index, one in enumerate(params.guidance_search.negatives):
        yield f"guidance_search.negatives.{index}", one
    for index, entry in enumerate(params.eval.samplers or []):
        yield f"eval.samplers.{index}.weights", entry.weights
        for place, guidance in enumerate(entry.guidance):
            if isinstance(guidance, OwnGuidance):
                key = f"eval.samplers.{index}.guidance.{place}.negative"
                yield key, guidance.negative


def _other_images(key: str, folder: Path, shape: Shape) -> Iterator[str]:
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        found = tuple(config["network"]["image_shape"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        kind = type(error).__name__
        yield f"{key}: {folder / _CONFIG} cannot be read ({kind}: {error}); copy the folder again"
        return
    if found != shape:
        yield (
            f"{key}: found {str(folder)!r}, a model of {_size(found)}; expected "
            f"{_size(shape)}, as this project's: train it on the same data"
        )


def _size(shape: Shape) -> str:
    return " × ".join(map(str, shape))
