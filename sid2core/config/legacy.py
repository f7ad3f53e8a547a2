"""Parameters of the layout in which a kind's keys stood beside its name.

``params.yaml`` in that layout is refused with the new location of each key. The section
``diffusion`` of an old ``config.json``, beside weights, is converted: weights stay loadable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sid2core.config.yaml_read import shown

_SCHEDULE = ("noise_res_low", "noise_res_high", "logsnr_min", "logsnr_max", "shift")
_LOSS = ("bias", "bias_start", "bias_steps", "levels")
_PATHS = ("path", "eval_path")
_KEYS: dict[str, tuple[str, ...]] = {
    "cosine_interpolated": _SCHEDULE,
    "cosine": ("logsnr_min", "logsnr_max"),
    "sigmoid": ("bias", "bias_start", "bias_steps"),
    "power": _LOSS,
    "shapes": ("count",),
    "folder": (*_PATHS, "labels", "class_names"),
    "frames": (*_PATHS, "frames", "frame_stride"),
    "imagenet": (*_PATHS, "labels", "class_names"),
    "arrays": (*_PATHS, "labels", "class_names"),
    "parquet": (*_PATHS, "class_names"),
    "webdataset": (*_PATHS, "class_names"),
}
"""What each kind took of the flat keys; kinds that are not listed took none."""


@dataclass(frozen=True)
class Move:
    """A key of the old layout; ``{}`` in the new one is the chosen kind, if it has the key."""

    old: str
    new: str
    kinds: tuple[str, ...] = ()
    """The kinds that have the key; the first is named where another one is chosen."""
    kind: str | None = None
    """The key that chose the kind."""


def _having(key: str) -> tuple[str, ...]:
    return tuple(kind for kind, keys in _KEYS.items() if key in keys)


MOVES = (
    *(
        Move(
            f"diffusion.schedule.{key}",
            f"diffusion.schedule.{{}}.{key}",
            _having(key),
            "diffusion.schedule.name",
        )
        for key in _SCHEDULE
    ),
    *(
        Move(
            f"diffusion.loss.{key}",
            f"diffusion.loss.{{}}.{key}",
            _having(key),
            "diffusion.loss.name",
        )
        for key in _LOSS
    ),
    *(
        Move(f"data.{key}", f"data.source.{{}}.{key}", _having(key), "data.source")
        for key in ("path", "eval_path", "labels", "class_names", "count", "frames", "frame_stride")
    ),
    Move("data.workers", "runtime.workers"),
    Move("data.dask_address", "runtime.dask_address"),
    Move("train.label_dropout", "train.condition_dropout"),
    Move("model.text_channels", "model.text.channels"),
    Move("distill.max_weight", "distill.form.alternating.max_weight"),
    Move("sampling.logvar_fraction", "sampling.sampler.ddpm.logvar_fraction"),
    Move("sampling.eta", "sampling.sampler.addim.eta"),
    Move("eval.inception_weights", "eval.extractors.inception.weights"),
    Move("eval.inception_mode", "eval.extractors.inception.mode"),
    Move("eval.dinov2_weights", "eval.extractors.dinov2.weights"),
)
NAMES = ("data.source", "sampling.sampler")
"""Keys that held a kind's name and are sections now."""


def moved(raw: Any) -> Iterator[str]:
    """One line for each key of ``raw`` that stands where the old layout had it."""
    for key in NAMES:
        found, value = _at(raw, key)
        if found and isinstance(value, str):
            yield f"{key} moved to {key}.name: found {shown(value)} where a section is expected"
    for move in MOVES:
        if _at(raw, move.old)[0]:
            yield f"{move.old} moved to {_new(raw, move)}"


def _new(raw: Any, move: Move) -> str:
    if not move.kinds:
        return move.new
    chosen = _at(raw, move.kind or "")[1]
    if isinstance(chosen, Mapping):
        chosen = chosen.get("name")
    return move.new.format(chosen if chosen in move.kinds else move.kinds[0])


def _at(raw: Any, key: str) -> tuple[bool, Any]:
    """Whether there is such a key, and its value."""
    for part in key.split("."):
        if not isinstance(raw, Mapping) or part not in raw:
            return False, None
        raw = raw[part]
    return True, raw


def upgraded(diffusion: Mapping[str, Any]) -> dict[str, Any]:
    """The section ``diffusion`` of a ``config.json`` of either layout, in today's layout."""
    result = dict(diffusion)
    for part in ("schedule", "loss"):
        flat = result.get(part)
        if isinstance(flat, Mapping) and isinstance(flat.get("name"), str):
            result[part] = _nested(flat)
    return result


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A section with its kind's keys below the kind's name.

    A power loss without ``normalisation`` is the sum, the only form there was.
    """
    name = flat["name"]
    keys = _KEYS.get(name, ())
    if name in flat or not set(flat) - {"name"}:
        result = dict(flat)
    else:
        result = {"name": name, name: {key: flat[key] for key in keys if key in flat}}
    if name == "power":
        result[name] = {"normalisation": "sum"} | result.get(name, {})
    return result
