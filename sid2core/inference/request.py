"""What to draw, completely: as an object, and as the JSON beside every drawn file.

    request = Request(model="artifacts/train", count=4, label=["7"], guidance=0.5)
    images = load_model(request.model).draw(request)

Importing this module does not import JAX.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from sid2core.config.diffusion import ClipX, Sampler
from sid2core.config.explain import first, lines
from sid2core.config.section import (
    FilePath,
    Finite,
    NonNegativeFloat,
    Positive,
    Section,
    Seed,
)
from sid2core.errors import Sid2Error

_Text = Annotated[str, Field(max_length=10_000)]
_Class = Annotated[int, Field(ge=0)] | _Text
_Strength = Annotated[float, Field(gt=0.0, le=1.0)]


class RequestError(Sid2Error):
    """A request cannot be read, or asks for what no model can draw."""


class Request(Section):
    """One drawing. None leaves a choice to the model; :meth:`Model.completed` fills it in.

    Attributes:
        model: the folder of its weights.
        weights: their SHA-256; a drawing from others is refused.
        count: how many examples, n.
        seed: of the noise; example i depends on (seed, i) alone.
        label: one class, by index or name, or one for each example; None for every class in turn.
        prompt: one text, or one for each example.
        negative: the text that guidance pushes away from; None for the empty caption.
        given: the path of the frames that clips begin with.
        frames: of a clip; None as trained.
        sampler: a kind with its parameters, as ``sampling.sampler`` in ``params.yaml``.
        steps: of the sampler.
        clip_x: as ``sampling.clip_x``.
        guidance: its weight; 0 for none.
        interval: the log-SNRs between which guidance acts; None for all.
        negative_model: the worse model of autoguidance: ``step 400`` for a snapshot of the
            training, or a folder.
        ema: an average of the weights, kind and value: ``power 0.1``; None for the usual one.
        init: the path of a picture to start from.
        strength: of the noise on it: the time of the first step, 1 is noise alone.
        mask: the path of a picture: white is drawn, black is kept of ``init``.
        repeats: how often each step is done with a mask, so that both parts fit.
        inputs: the SHA-256 of each file that it names; others are refused.
    """

    model: FilePath = "artifacts/train"
    weights: str | None = None
    count: Positive = 1
    seed: Seed = 0
    label: Annotated[list[_Class], Field(min_length=1)] | None = None
    prompt: Annotated[list[_Text], Field(min_length=1)] | None = None
    negative: _Text | None = None
    given: FilePath | None = None
    frames: Positive | None = None
    sampler: Sampler | None = None
    steps: Positive | None = None
    clip_x: ClipX | None = None
    guidance: NonNegativeFloat = 0.0
    interval: tuple[Finite, Finite] | None = None
    negative_model: FilePath | None = None
    ema: str | None = None
    init: FilePath | None = None
    strength: _Strength | None = None
    mask: FilePath | None = None
    repeats: Positive = 10
    inputs: dict[str, str] = {}

    @classmethod
    def of(cls, **values: Any) -> Request:
        """A request whose values are checked.

        Raises:
            RequestError: each value that is wrong, and what was expected.
        """
        return _checked(cls, lambda: cls.model_validate(values))

    @classmethod
    def from_json(cls, text: str) -> Request:
        """Read what :meth:`to_json` wrote, or what a user did.

        Raises:
            RequestError: it is no JSON, or a key or value is wrong; each is named.
        """
        try:
            found = json.loads(text)
        except ValueError as error:
            msg = f"request: not JSON ({error})"
            raise RequestError(msg) from None
        if not isinstance(found, dict):
            msg = f"request: found {type(found).__name__}, expected an object with keys"
            raise RequestError(msg)
        return _checked(cls, lambda: cls.model_validate_json(text))

    def to_json(self) -> str:
        """One line, keys in a fixed order; equal requests have equal text."""
        return self.model_dump_json()

    def replaced(self, **values: Any) -> Request:
        """The same with other values.

        Raises:
            RequestError: as :meth:`of`.
        """
        kept = {name: getattr(self, name) for name in type(self).model_fields}
        return self.of(**{**kept, **values})

    @model_validator(mode="after")
    def _fits(self) -> Request:
        for name in ("label", "prompt"):
            found = getattr(self, name)
            if found is not None and len(found) not in (1, self.count):
                msg = f"{name}: found {len(found)} for {self.count} examples"
                raise ValueError(f"{msg}; expected one, or one for each")
        if self.interval is not None and not self.interval[0] < self.interval[1]:
            msg = f"interval: found {list(self.interval)}; expected low < high"
            raise ValueError(msg)
        for name in ("interval", "negative_model", "negative"):
            if getattr(self, name) is not None and self.guidance == 0.0:
                msg = f"{name}: found a value, but there is no guidance; set `guidance` too"
                raise ValueError(msg)
        for name in ("strength", "mask"):
            if getattr(self, name) is not None and self.init is None:
                msg = f"{name}: found a value, but no `init`; give the picture to start from"
                raise ValueError(msg)
        return self


def _checked(cls: type[Request], make: Any) -> Request:
    try:
        made: Request = make()
    except ValidationError as error:
        found = (line.strip().removeprefix("(the whole file): ") for line in lines(cls, error))
        raise RequestError("request: " + "\n".join(first([*found]))) from None
    return made
