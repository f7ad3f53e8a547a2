"""The files, models and numbers that a request names."""

from __future__ import annotations

import difflib
import hashlib
import inspect
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from sid2core import checksums, config
from sid2core.config import SAMPLERS
from sid2core.config.registry import FromFields, imported
from sid2core.config.search import NULL, USUAL
from sid2core.config.training import Ema
from sid2core.data.decode.decoding import Recipe
from sid2core.data.errors import DataError, Unusable
from sid2core.errors import few
from sid2core.inference.guidance_search import Setting
from sid2core.inference.model import Trained
from sid2core.inference.request import Request, RequestError
from sid2core.inference.searched import Models, Searched
from sid2core.inference.stepwise import Edit
from sid2core.models import network
from sid2core.training import ema, snapshots

_MOST_PIXELS = 89_478_485


def sampler_named(name: str) -> config.Sampler:
    """A sampler of ``params.yaml`` with its default parameters.

    Raises:
        RequestError: there is none of this name, or its parameters have no defaults.
    """
    if name not in SAMPLERS:
        msg = f"sampler: {SAMPLERS.unknown(name)}"
        raise RequestError(msg)
    kind, values = SAMPLERS[name], {}
    if isinstance(kind.target, FromFields):
        parameters = inspect.signature(imported(kind.target.target)).parameters.values()
        values = {one.name: one.default for one in parameters if one.default is not one.empty}
    fields = kind.schema.model_fields.items()
    missing = [key for key, field in fields if field.is_required() and key not in values]
    if missing:
        msg = f"sampler: {name} needs {', '.join(missing)}, which have no defaults"
        raise RequestError(msg)
    known = {key: value for key, value in values.items() if key in kind.schema.model_fields}
    return config.Sampler.model_validate({"name": name, name: known})


def check(trained: Trained, request: Request) -> None:
    """Refuse what can be known before drawing; the rest is refused where it is drawn.

    Raises:
        RequestError: guidance has nothing to push away from, or as :func:`edit_of`.
    """
    if request.guidance and request.negative_model is None and not trained.condition:
        msg = "guidance: the model is unconditional; leave `guidance` out, or name a negative_model"
        raise RequestError(msg)
    edit_of(trained, request)


def searched(trained: Trained, request: Request) -> Searched:
    """The average and the guidance that a request names; its negative prompt is in place.

    Raises:
        WeightsError: the average or the worse model is missing, or is of other images.
    """
    low, high = request.interval or (None, None)
    setting = Setting(
        request.guidance,
        *(low, high),
        request.negative_model or NULL,
        request.ema or USUAL,
    )
    return Models(trained.with_negative(request.negative)).of(setting)


def _average(name: str) -> Ema:
    kind, _, value = name.partition(" ")
    try:
        return Ema.model_validate({"kind": kind, "value": float(value)})
    except (ValueError, ValidationError):
        msg = f"ema: found {name[:60]!r}; expected kind and value, such as 'power 0.1'"
        raise RequestError(msg) from None


def _absent(folder: Path, average: str) -> str:
    """The averages that a training kept beside the usual one, for a message."""
    stems = sorted(path.stem for path in folder.glob("ema_*.safetensors"))
    names = [stem.removeprefix("ema_").replace("_", " ") for stem in stems]
    if not names:
        cure = "leave `ema` out, or train with it in train.emas"
        return f"ema: found {average!r}, but {folder} has only the usual average; {cure}"
    near = difflib.get_close_matches(average, names, n=1, cutoff=0.0)[0]
    return f"ema: found {average!r}; {folder} has {few(names)}: the nearest is {near!r}"


def weights_of(folder: Path, average: str | None) -> str:
    """The SHA-256 of the file of a model's weights; of averages, of all that they are made of.

    Raises:
        RequestError: there is no such average; those that there are are named.
    """
    if average is None:
        return _hash(folder / network.WEIGHTS)
    kept = folder / f"{ema.name(_average(average))}.safetensors"
    if kept.exists():
        return _hash(kept)
    files = sorted((folder / snapshots.FOLDER).glob("*.ema_power_*.safetensors"))
    if not files:
        raise RequestError(_absent(folder, average))
    return hashlib.sha256(" ".join(map(_hash, files)).encode()).hexdigest()


def inputs_of(folder: Path, request: Request) -> dict[str, str]:
    """The SHA-256 of each file that a request names, but the weights.

    Raises:
        RequestError: there is no such file.
    """
    named = {name: getattr(request, name) for name in ("given", "init", "mask")}
    files = {name: Path(one) for name, one in named.items() if one is not None}
    negative = request.negative_model
    if negative is not None:
        step = negative.removeprefix("step ")
        place = Path(negative) / network.WEIGHTS
        if step != negative and step.isdigit():
            place = folder / snapshots.FOLDER / snapshots.name(int(step))
        files["negative_model"] = place
    found = {}
    for name, file in files.items():
        if not file.exists():
            msg = f"{name}: {file} does not exist"
            raise RequestError(msg)
        parts = sorted(one for one in file.iterdir() if one.is_file()) if file.is_dir() else [file]
        hashes = [_hash(one) for one in parts]
        together = hashlib.sha256(" ".join(hashes).encode()).hexdigest()
        found[name] = together if file.is_dir() else hashes[0]
    return found


def edit_of(trained: Trained, request: Request) -> Edit | None:
    """The picture to start from, and its mask.

    Raises:
        RequestError: they cannot be read, or the model or sampler cannot use them.
    """
    if request.init is None:
        return None
    shape = trained.shape.image_shape
    if len(shape) != 3:
        msg = "init: the model draws clips; expected a model of images (for clips: given)"
        raise RequestError(msg)
    picture = _picture("init", Path(request.init), shape).astype(np.float32) / 127.5 - 1.0
    mask = None
    if request.mask is not None:
        grey = _picture("mask", Path(request.mask), (*shape[:2], 1))
        mask = (grey >= 128).astype(np.float32)
        if request.sampler is not None and request.sampler.name == "dpm_solver":
            msg = "mask: dpm_solver uses earlier steps, which a mask repeats; choose another"
            raise RequestError(f"{msg} sampler, such as ddpm")
    strength = request.strength
    if strength is None:
        strength = 1.0 if mask is not None else 0.5
    return Edit(picture, strength, mask, request.repeats)


def _picture(name: str, path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    height, width, channels = shape
    recipe = Recipe(height, width, channels, "adm", "white", "exact", _MOST_PIXELS)
    try:
        with path.open("rb") as file:
            return recipe.image(file).image
    except (OSError, ValueError, DataError, Unusable) as error:
        msg = f"{name}: {path} cannot be read ({error}); expected a picture such as PNG"
        raise RequestError(msg) from None


def _hash(path: Path) -> str:
    try:
        state = path.stat()
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise RequestError(msg) from None
    return _hashed(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)
def _hashed(path: Path, changed: int, size: int) -> str:
    del changed, size  # parts of the key
    return checksums.sha256(path)
