"""Models that the server draws from: their controls, their conditions, their drawings."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import jax
import numpy as np
from numpy.typing import NDArray

from sid2core import conditioning, rng
from sid2core.conditioning import Condition, Given
from sid2core.config import SAMPLERS
from sid2core.data.load.pixels import to_uint8
from sid2core.diffusion.clipping import StaticClip
from sid2core.diffusion.guidance import (
    AutoGuidance,
    ConstantGuidance,
    Guidance,
    IntervalGuidance,
    Negative,
    NoGuidance,
)
from sid2core.diffusion.samplers import Sampler
from sid2core.inference import requested
from sid2core.inference.generator import Method
from sid2core.inference.negatives import WorseModel
from sid2core.inference.public import Model
from sid2core.inference.request import RequestError
from sid2core.inference.stepwise import Stepwise
from sid2core.serving import asked, pictures
from sid2core.serving.asked import Asked, AskedError, Limits
from sid2core.serving.jobs import Pace, Update, Work
from sid2core.text.prompts import Prompts

_STEPS = 32
"""Of a base model, where none are asked for: the default of ``params.yaml``."""


@dataclass(frozen=True, eq=False)
class Served:
    """A model with what it may be asked for.

    Attributes:
        model: the model.
        limits: of one drawing.
        clips: first frames to choose from by name, each [k, h, w, c], for a model that continues
            clips.
        worse: the negative of autoguidance, if the client may use it.
    """

    model: Model
    limits: Limits = Limits()
    clips: Mapping[str, NDArray[np.uint8]] | None = None
    worse: WorseModel | None = None

    def __post_init__(self) -> None:
        """Refuse a model whose conditions a client cannot give.

        Raises:
            AskedError: it needs first frames, and there are none, or it takes other conditions.
        """
        spec = self.model.condition
        unknown = set(spec.names) - {"label", "text", "given"}
        if unknown:
            msg = f"the model takes {', '.join(sorted(unknown))}; the page has classes and prompts"
            raise AskedError(msg)
        if spec.given is not None and self.clips is None:
            msg = "the model continues clips: run this where artifacts/prepare is, or give --given"
            raise AskedError(msg)

    def about(self) -> dict[str, Any]:
        """What the page must know."""
        shape, steps = self.model.trained.shape, self.model.student_steps
        *frames, height, width, _ = shape.image_shape
        size = f"{height} × {width}" + "".join(f", {count} frames" for count in frames)
        kind = "base" if steps is None else f"student of {steps} step{'s' * (steps > 1)}"
        label = self.model.condition.label
        names = [] if label is None else [*(label.names or map(str, range(label.classes)))]
        return {
            "summary": f"{kind}, {size}",
            "classes": names,
            "student": steps,
            "text": self.model.condition.text is not None,
            "given": [*(self.clips or ())],
            "autoguidance": self.worse is not None,
        }

    def work(self, values: Mapping[str, Any]) -> Work:
        """The drawing that JSON values ask for.

        Raises:
            Sid2Error: it is not possible, or beyond a limit.
        """
        wanted = asked.parse(values, self.limits, self.model.trained.shape.image_shape)
        condition, negative = self._conditions(wanted)
        method = self._method(wanted)
        given = 0 if condition.given is None else condition.given.frames.shape[1]

        def draw(update: Update) -> dict[str, Any]:
            since, pace, step = time.perf_counter(), Pace(), 0
            images = self._estimates(method, wanted.seed, condition, negative, wanted.count)
            for step, image in enumerate(images, 1):
                state: dict[str, Any] = {"event": "step", "step": step, "steps": method.steps}
                update(state | (pictures.sheet(image, given, moving=False) if pace.due() else {}))
            seconds = time.perf_counter() - since
            summary = f"{method.nfe} network evaluations each; {seconds:.1f} s"
            return {"summary": summary} | pictures.sheet(image, given)

        return draw

    def _estimates(
        self,
        method: Method,
        seed: int,
        condition: Condition,
        negative: Condition | None,
        count: int,
    ) -> Iterator[NDArray[np.uint8]]:
        """The estimate after each step, uint8 [n, …]; the last is the result.

        So many are drawn as the next power of two, so that few programs are compiled.
        """
        place = np.arange(1 << (count - 1).bit_length()) % count
        keys = rng.keys(rng.key(seed, "sample"), place)
        padded = conditioning.taken(condition, place)
        other = None if negative is None else conditioning.taken(negative, place)
        drawing = Stepwise(method, self.model.trained.params, len(place), self.worse)
        for x_hat in drawing.predictions(keys, padded, other):
            yield conditioning.whole(np.asarray(to_uint8(x_hat))[:count], condition)

    def _conditions(self, wanted: Asked) -> tuple[Condition, Condition | None]:
        """The condition of the samples, and of what guidance pushes away from.

        Equal rows are views of one: drawings that wait take little memory.
        """
        spec, count = self.model.condition, wanted.count
        for name, kind in (("label", spec.label), ("prompt", spec.text), ("negative", spec.text)):
            if getattr(wanted, name) is not None and kind is None:
                msg = f"{name}: the model takes none; leave it out."
                raise AskedError(msg)
        condition, negative = Condition(), None
        if spec.text is not None:
            condition = _repeated(self._prompts.conditions_of([wanted.prompt or ""], spec), count)
            if wanted.negative:
                negative = _repeated(self._prompts.conditions_of([wanted.negative], spec), count)
        if spec.label is not None and wanted.label is not None:
            index = spec.label.index(wanted.label)
            condition = condition._replace(label=np.full(count, index, np.int32))
        elif spec.label is not None and spec.text is None:
            condition = condition._replace(label=spec.label.balanced(count))
        if self.clips is not None:
            if wanted.given >= len(self.clips):
                msg = f"given: found {wanted.given}; expected 0 to {len(self.clips) - 1}."
                raise AskedError(msg)
            frames = [*self.clips.values()][wanted.given]
            given = Condition(given=Given(frames[None], np.ones(1, bool)))
            condition = condition._replace(given=_repeated(given, count).given)
        return condition, negative

    def _method(self, wanted: Asked) -> Method:
        trained, steps = self.model.trained, self.model.student_steps
        if steps is None:
            guidance = self._guidance(wanted)
            sampler = sampler_named(wanted.sampler or "ddpm")
            count = wanted.steps or _STEPS
            return trained.method(sampler, guidance, count, clip_x=StaticClip())
        for name in ("guidance", "negative", "interval", "autoguidance", "sampler", "steps"):
            if getattr(wanted, name):
                msg = f"{name}: a student of {steps} steps has its own; leave it out."
                raise AskedError(msg)
        return trained.method(trained.student_sampler, NoGuidance(), steps, clip_x=StaticClip())

    def _guidance(self, wanted: Asked) -> Guidance:
        if wanted.guidance == 0.0:
            for name in ("negative", "interval", "autoguidance"):
                if getattr(wanted, name):
                    msg = f"{name}: it has an effect with guidance only; raise guidance or leave "
                    raise AskedError(f"{msg}it out.")
            return NoGuidance()
        low, high = wanted.interval or (None, None)
        if wanted.autoguidance:
            if self.worse is None:
                msg = "autoguidance: the server has no worse model to push away from; leave it out."
                raise AskedError(msg)
            if wanted.negative:
                msg = "negative: autoguidance pushes away from a model; leave one of the two out."
                raise AskedError(msg)
            return AutoGuidance(wanted.guidance, low, high)
        if not self.model.condition:
            msg = "guidance: the model is unconditional, so there is nothing to push away from."
            raise AskedError(msg)
        negative = Negative.PROMPT if wanted.negative else Negative.UNCONDITIONAL
        if low is None or high is None:
            return ConstantGuidance(wanted.guidance, negative)
        return IntervalGuidance(wanted.guidance, low, high, negative)

    @functools.cached_property
    def _prompts(self) -> Prompts:
        return self.model.trained.prompts()


def _repeated(condition: Condition, count: int) -> Condition:
    """A condition of one row as views of ``count`` rows, on the host."""
    return jax.tree.map(lambda one: np.broadcast_to(one, (count, *one.shape[1:])), condition)


def samplers() -> list[str]:
    """The samplers whose parameters all have defaults."""
    return [name for name in SAMPLERS if _sampler(name) is not None]


def sampler_named(name: str) -> Sampler:
    """A sampler with its default parameters.

    Raises:
        AskedError: there is none of this name.
    """
    found = _sampler(name)
    if found is None:
        msg = f"sampler: found {ascii(name[:80])}; expected one of {', '.join(samplers())}."
        raise AskedError(msg)
    return found


def _sampler(name: str) -> Sampler | None:
    try:
        return cast(Sampler, requested.sampler_named(name).build())
    except RequestError:
        return None
