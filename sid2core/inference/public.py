"""A trained model in Python: load a folder, draw images."""

from __future__ import annotations

import difflib
import inspect
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sid2core import rng
from sid2core.conditioning import Condition, ConditionSpec, Given, LabelKind
from sid2core.config import SAMPLERS
from sid2core.config.diffusion import ClipX
from sid2core.config.registry import FromFields, imported
from sid2core.config.training import Ema
from sid2core.diffusion.clipping import StaticClip
from sid2core.diffusion.guidance import ConstantGuidance, Guidance, NoGuidance
from sid2core.diffusion.samplers import DDPM, Sampler
from sid2core.errors import few
from sid2core.inference import averages, checks, clips, requested
from sid2core.inference.checks import SampleError
from sid2core.inference.generator import Generator
from sid2core.inference.model import Trained
from sid2core.inference.request import Request, RequestError
from sid2core.inference.stepwise import OnStep, Stepwise
from sid2core.models import network
from sid2core.models.fit import WeightsError
from sid2core.pipeline import artifact
from sid2core.typing import Array

_STEPS, _BATCH = 32, 50
"""Steps of a base model, and images drawn at once: the defaults of ``params.yaml``."""

Label = int | str


@dataclass(frozen=True, eq=False)
class Model:
    """A model with its weights, ready to draw images."""

    trained: Trained

    @property
    def condition(self) -> ConditionSpec:
        """What the model is conditioned on."""
        return self.trained.condition

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class, as far as known."""
        return () if self.condition.label is None else self.condition.label.names

    @property
    def student_steps(self) -> int | None:
        """The number of steps of a distilled student; None for a base model."""
        return self.trained.student_steps

    def sample(
        self,
        count: int,
        *,
        label: Label | Sequence[Label] | None = None,
        prompt: str | Sequence[str] | None = None,
        negative: str | None = None,
        given: NDArray[Any] | str | Path | None = None,
        frames: int | None = None,
        seed: int = 0,
        guidance: float | Guidance | None = None,
        sampler: str | Sampler | None = None,
        steps: int | None = None,
    ) -> NDArray[np.uint8]:
        """Draw images [n, h, w, c] or clips [n, f, h, w, c]; image i depends on (seed, i) alone.

        Args:
            count: how many, n.
            label: a class by index or name, or one for each image; None for every class in turn.
            prompt: a text, or one for each image, for models that take text.
            negative: a text that guidance pushes away from; None for the empty one.
            given: for models that continue clips, the first frames: uint8 [k, h, w, c] of all
                clips or [n, k, h, w, c], or the path of a folder of pictures, a video, an
                animation or a .npy file.
            frames: of a clip; None is what the model was trained on. More are drawn in windows:
                the last k frames are the given ones of the next window.
            seed: of the noise.
            guidance: a weight, a guidance, or None for none.
            sampler: a sampler, its name in ``params.yaml``, or None: DDPM, and for a student its
                own.
            steps: how many; None for 32, and for a student its own number.

        Raises:
            ConditionError: there is no such class, the model takes other conditions, or given
                frames do not fit.
            SampleError: the model cannot draw so many frames, a student is asked for guidance, a
                negative prompt has no guidance, or the sampler is unknown.
            TextError: what makes tokens of prompts is missing or damaged.
        """
        if count < 1:
            msg = f"count: found {count}; expected 1 or more"
            raise SampleError(msg)
        student = self.student_steps
        checks.guidance(student, guidance)
        asked = {"label": label, "prompt": prompt, "negative": negative, "given": given}
        checks.conditions(self.condition, asked)
        checks.frames(frames, self.trained.shape)
        if negative is not None and not guidance:
            msg = "negative: guidance pushes away from it, and there is none; give `guidance` too"
            raise SampleError(msg)
        condition = self._condition(count, label, prompt)
        condition = condition._replace(given=self._given(given, count))
        method = self.trained.with_negative(negative).method(
            self._sampler(sampler),
            _guidance(guidance),
            _step_count(steps, student),
            clip_x=StaticClip(),
        )
        generator = Generator(method, self.trained.params, _batch(count))
        return _windows(generator.images, count, seed, condition, frames)

    def completed(self, request: Request) -> Request:
        """The request with the model's choices where it has None, and the checksums of its files.

        Raises:
            RequestError: the weights or another file have another checksum than it says, or it
                names something that is not there.
            ConditionError: there is no such class.
        """
        folder = self.trained.folder
        weights = requested.weights_of(folder, request.ema)
        inputs = requested.inputs_of(folder, request)
        for name, found, expected in (
            ("weights", weights, request.weights or weights),
            *((name, inputs.get(name, "none"), one) for name, one in request.inputs.items()),
        ):
            if found != expected:
                msg = f"{name}: found SHA-256 {found[:12]}…, expected {expected[:12]}…: the file "
                raise RequestError(f"{msg}of {folder if name == 'weights' else name} has changed")
        kind = self.condition.label
        label = request.label
        if label is not None and kind is not None:
            label = [kind.index(one) for one in label]
        own = requested.sampler_named("ddpm") if self.student_steps is None else None
        return request.replaced(
            weights=weights,
            inputs=inputs,
            label=label,
            sampler=request.sampler or own,
            steps=request.steps or self.student_steps or _STEPS,
            clip_x=request.clip_x or ClipX.model_validate({"name": "static"}),
        )

    def checked(self, request: Request) -> Request:
        """As :meth:`completed`; what the model cannot draw is refused before anything is compiled.

        Raises:
            RequestError: as :meth:`completed`, or the model cannot draw it.
            ConditionError: there is no such class, or the model takes other conditions.
            SampleError: as :meth:`sample`.
        """
        checks.guidance(self.student_steps, request.guidance)
        checks.conditions(self.condition, vars(request))
        checks.frames(request.frames, self.trained.shape)
        request = self.completed(request)
        requested.check(self.trained, request)
        self._given(request.given, 1)
        return request

    def draw(self, request: Request, on_step: OnStep | None = None) -> NDArray[np.uint8]:
        """Draw what a request says: images [n, h, w, c] or clips [n, f, h, w, c].

        Args:
            request: what to draw; its ``model`` is not loaded, the weights are those here.
            on_step: called as ``on_step(step, steps, x_hat)`` after each step, x_hat the
                prediction of the batch in about [-1, 1]; what it raises ends the drawing. With
                it, and for ``init``, steps are compiled singly: the same up to rounding.

        Raises:
            RequestError: as :meth:`checked`.
            ConditionError: as :meth:`checked`, or given frames do not fit.
            SampleError: as :meth:`checked`.
        """
        request = self.checked(request)
        count, sampler, clip_x = request.count, request.sampler, request.clip_x
        condition = self._condition(count, _one(request.label), _one(request.prompt))
        condition = condition._replace(given=self._given(request.given, count))
        edit = requested.edit_of(self.trained, request)
        found = requested.searched(self.trained, request)
        method = found.model.method(
            self._sampler(None) if sampler is None else sampler.build(),
            found.guidance,
            request.steps or _STEPS,
            clip_x=StaticClip() if clip_x is None else clip_x.build(),
        )
        params, batch = found.model.params, _batch(count)
        if on_step is None and edit is None:
            generator = Generator(method, params, batch, worse=found.worse)
            return _windows(generator.images, count, request.seed, condition, request.frames)
        stepwise = Stepwise(method, params, batch, found.worse, edit)
        show = _silent if on_step is None else on_step
        images = partial(stepwise.images, on_step=show)
        return _windows(images, count, request.seed, condition, request.frames)

    def _sampler(self, sampler: str | Sampler | None) -> Sampler:
        if isinstance(sampler, str):
            return _sampler(sampler)
        if sampler is None:
            return DDPM() if self.student_steps is None else self.trained.student_sampler
        return sampler

    def _given(self, given: NDArray[Any] | str | Path | None, count: int) -> Given | None:
        kind = self.condition.given
        if kind is None or given is None:
            return None
        return clips.condition_of(given, kind, count, self.trained.config)

    def _condition(
        self,
        count: int,
        label: Label | Sequence[Label] | None,
        prompt: str | Sequence[str] | None,
    ) -> Condition:
        kind = self.condition.label
        if prompt is None and label is None and self.condition.given is None:
            return self.condition.asked(count)
        condition = Condition()
        if prompt is None and label is None and kind is not None:
            condition = Condition(label=kind.balanced(count))
        if prompt is not None:
            prompts = [prompt] * count if isinstance(prompt, str) else list(prompt)
            checks.number("prompt", len(prompts), count)
            condition = self.trained.prompts().conditions_of(prompts, self.condition)
        if label is not None and kind is not None:
            labels = [label] * count if isinstance(label, int | str | np.integer) else list(label)
            checks.number("label", len(labels), count)
            indices = np.array([kind.index(one) for one in labels], np.int32)
            condition = condition._replace(label=indices)
        return condition


def _windows(
    images: Callable[[Array, NDArray[Any], Condition], NDArray[np.uint8]],
    count: int,
    seed: int,
    condition: Condition,
    frames: int | None,
) -> NDArray[np.uint8]:
    """The examples, or clips of ``frames`` frames, each window with a stream of its own."""

    def draw(window: int, condition: Condition) -> NDArray[np.uint8]:
        stream = "sample" if window == 0 else f"sample/window-{window}"
        return images(rng.key(seed, stream), np.arange(count), condition)

    return draw(0, condition) if frames is None else clips.continued(draw, condition, frames)


def _batch(count: int) -> int:
    """How many are drawn at once: batches of equal size, so that few places stay empty."""
    return math.ceil(count / math.ceil(count / _BATCH))


def _one(values: list[Any] | None) -> Any:
    """A list of one as its value, which is that of all examples."""
    return values[0] if values is not None and len(values) == 1 else values


def _silent(step: int, steps: int, x_hat: Array) -> None:
    """Shows nothing."""


def load_model(folder: str | Path, *, width: float | None = None, step: int | None = None) -> Model:
    """Load ``artifacts/train``, ``artifacts/distill/student_8``, or a copy of such a folder.

    Args:
        folder: of one model.
        width: of an average by a power function, sigma_rel, instead of the usual one. It was kept
            by ``train.emas``, or is made from those at the snapshots
            (:mod:`sid2core.training.reconstruction`).
        step: of ``train.snapshots``, instead of the end of the training.

    Raises:
        WeightsError: the folder holds no readable model, or no such average.
        SampleError: the folder holds several; they are listed.
    """
    place = Path(folder)
    if not (place / network.CONFIG).exists():
        inside = sorted(path.parent.name for path in place.glob(f"*/{network.CONFIG}"))
        if inside:
            msg = f"{place} holds {', '.join(inside)}; load one of these, such as "
            raise SampleError(f"{msg}{place / inside[0]}")
    try:
        trained = Trained.load(place)
    except WeightsError as error:
        raise WeightsError(f"{error}{_beside(place)}") from None
    if width is not None or step is not None:
        average = None if width is None else Ema(kind="power", value=width)
        params = averages.read(place, trained.denoiser.network, average, step)
        trained = replace(trained, params=params)
    kind = trained.denoiser.network.config.condition.label
    if kind is None or kind.names:
        return Model(trained)
    return Model(_named(trained, kind, place.absolute()))


def _beside(place: Path) -> str:
    """The models beside a folder that does not exist, for a message."""
    names = sorted(path.parent.name for path in place.parent.glob(f"*/{network.CONFIG}"))
    if place.exists() or not names:
        return ""
    near = difflib.get_close_matches(place.name, names, n=1, cutoff=0.0)[0]
    return f". Models beside it: {few(names)}; the nearest is {place.parent / near}"


def _named(trained: Trained, kind: LabelKind, place: Path) -> Trained:
    """With the class names of the ``prepare`` artifact beside it, for folders of format 1."""
    for above in place.parents[:2]:
        manifest = above / "prepare" / "manifest.json"
        if manifest.exists():
            found = json.loads(manifest.read_text(encoding="utf-8"))
            names = tuple(artifact.metadata_of(found)["class_names"])
            if len(names) == kind.classes:
                kinds = tuple(
                    replace(one, names=names) if one is kind else one
                    for one in trained.condition.kinds
                )
                return trained.with_condition(ConditionSpec(kinds))
    return trained


def _guidance(guidance: float | Guidance | None) -> Guidance:
    if guidance is None:
        return NoGuidance()
    return ConstantGuidance(float(guidance)) if isinstance(guidance, int | float) else guidance


def _step_count(steps: int | None, student: int | None) -> int:
    if steps is None:
        return student or _STEPS
    if steps < 1:
        msg = f"steps: found {steps}; expected 1 or more"
        raise SampleError(msg)
    return steps


def _sampler(sampler: str) -> Sampler:
    if sampler not in SAMPLERS:
        raise SampleError(f"sampler: {SAMPLERS.unknown(sampler)}")
    kind = SAMPLERS[sampler]
    if isinstance(kind.target, FromFields):
        make = imported(kind.target.target)  # the sampler's own defaults
        parameters = inspect.signature(make).parameters.values()
        _check_complete(sampler, [one.name for one in parameters if one.default is one.empty])
        return cast(Sampler, make())
    fields = kind.schema.model_fields
    _check_complete(sampler, [name for name, field in fields.items() if field.is_required()])
    return cast(Sampler, kind.resolve()(kind.schema()))


def _check_complete(sampler: str, needed: Sequence[str]) -> None:
    """Refuse the name of a sampler whose parameters have no defaults."""
    if needed:
        msg = f"sampler: {sampler} needs {', '.join(needed)}; pass the sampler object instead"
        raise SampleError(msg)
