"""Whether a model can draw what it is asked for: refused before anything is compiled.

A message begins with the name of its argument, and names others in backquotes;
:func:`sid2core.cli.sample.options_named` writes the options of commands instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sid2core.conditioning import ConditionError, ConditionSpec
from sid2core.errors import Sid2Error
from sid2core.models.architecture import UViTConfig

_ARGUMENTS = {"label": "label", "text": "prompt", "given": "given"}
"""The argument for each kind of condition."""
_LACKS = {
    "label": ("label", "has no classes"),
    "prompt": ("text", "takes no text"),
    "negative": ("text", "takes no text"),
    "given": ("given", "continues no frames"),
}
"""The kind of condition that each argument needs, and what a model without it lacks."""


class SampleError(Sid2Error):
    """The model cannot draw what was asked for."""


def conditions(spec: ConditionSpec, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that the model does not take, or that it lacks; None is not given.

    Raises:
        ConditionError: the first of them, and what the model takes.
    """
    takes = " and ".join(f"`{_ARGUMENTS[one]}`" for one in spec.names if one in _ARGUMENTS)
    for name, (kind, lacks) in _LACKS.items():
        if arguments[name] is not None and kind not in spec.names:
            cure = f"it takes {takes}" if takes else "it is unconditional"
            msg = f"{name}: the model {lacks}; {cure}: leave `{name}` out"
            raise ConditionError(msg)
    if spec.text is not None and arguments["prompt"] is None:
        msg = "prompt: missing; the model takes text: give `prompt`, one or one for each example"
        raise ConditionError(f"{msg} ('' is the empty caption)")
    if spec.given is not None and arguments["given"] is None:
        shape = spec.given.shape
        msg = f"given: missing; the model continues {shape[0]} frames: give `given`, frames "
        raise ConditionError(f"{msg}{list(shape)} or a path")


def guidance(student_steps: int | None, weight: Any) -> None:
    """Refuse guidance of a student.

    Raises:
        SampleError: there is some.
    """
    if student_steps is not None and weight:
        msg = "guidance: a student has learned its teacher's guidance; leave `guidance` out"
        raise SampleError(msg)


def frames(count: Any, shape: UViTConfig) -> None:
    """Refuse a number of frames that the model cannot draw.

    Raises:
        SampleError: what was expected.
    """
    if count is None:
        return
    if not isinstance(count, int):
        msg = f"frames: found {count!r}, expected a whole number"
        raise SampleError(msg)
    if not shape.is_video:
        msg = f"frames: found {count}, but the model draws images; leave `frames` out"
        raise SampleError(msg)
    trained, given = shape.positions_shape[0], shape.given_frames
    if count <= given or (count > trained and not given):
        most = "" if given else f" to {trained}: a model without given frames cannot continue"
        msg = f"frames: found {count}; expected {given + 1}{most or ' or more'}"
        raise SampleError(msg)


def number(name: str, found: int, count: int) -> None:
    """Refuse a list that has neither one value nor one for each example.

    Raises:
        ConditionError: as described.
    """
    if found != count:
        msg = f"{name}: found {found} for {count} images; give one, or one for each image"
        raise ConditionError(msg)
