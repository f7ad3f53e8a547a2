"""What a client may ask for, and the limits of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, ValidationError

from sid2core.config import explain
from sid2core.config.section import LARGEST, Finite, Positive, Section, Seed
from sid2core.errors import Sid2Error

_Prompt = Annotated[str, Field(max_length=2000)]


class AskedError(Sid2Error):
    """A drawing that was asked for is not possible; one sentence."""


@dataclass(frozen=True)
class Limits:
    """The most that one drawing may take.

    Attributes:
        count: samples.
        steps: of the sampler.
        pixels: of all samples together: count × frames × height × width.
    """

    count: int = 64
    steps: int = 256
    pixels: int = 2**24


class Asked(Section):
    """One drawing; None is what the model has by itself.

    ``given`` is the index of one of the server's clips. With ``autoguidance``, guidance pushes away
    from the worse model that the server has.
    """

    count: Positive = 1
    seed: Seed = 0
    label: (
        Annotated[int, Field(ge=0, le=LARGEST)] | Annotated[str, Field(max_length=200)] | None
    ) = None
    prompt: _Prompt | None = None
    negative: _Prompt | None = None
    given: Annotated[int, Field(ge=0, le=LARGEST)] = 0
    guidance: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.0
    interval: Annotated[list[Finite], Field(min_length=2, max_length=2)] | None = None
    autoguidance: bool = False
    sampler: Annotated[str, Field(max_length=100)] | None = None
    steps: Positive | None = None


def parse(values: Mapping[str, Any], limits: Limits, shape: tuple[int, ...]) -> Asked:
    """The drawing that JSON values describe.

    Args:
        values: as the client sent them.
        limits: the most that is allowed.
        shape: of one sample, [h, w, c] or [f, h, w, c].

    Raises:
        AskedError: a value is unknown, ill-typed, out of range or beyond a limit.
    """
    most = len(Asked.model_fields)
    if len(values) > most:  # explaining thousands of unknown ones would take seconds
        msg = f"body: found {len(values)} settings; a drawing has at most {most}."
        raise AskedError(msg)
    try:
        asked = Asked.model_validate(values)
    except ValidationError as error:
        raise AskedError(f"{explain.lines(Asked, error)[0].strip()}.") from None
    for name in ("count", "steps"):
        found, most = getattr(asked, name), getattr(limits, name)
        if found is not None and found > most:
            msg = f"{name}: found {found}; this server draws at most {most}."
            raise AskedError(msg)
    pixels = asked.count * math.prod(shape[:-1])
    if pixels > limits.pixels:
        most = limits.pixels // math.prod(shape[:-1])
        msg = f"count: found {asked.count}; of this size the server draws at most {most}."
        raise AskedError(msg)
    if asked.interval is not None and not asked.interval[0] < asked.interval[1]:
        msg = f"interval: found {asked.interval}; the first number must be below the second."
        raise AskedError(msg)
    return asked
