"""What sections of ``params.yaml`` must have in common, checked before any work starts.

Only parameters are read, the files of ``eval.prompts`` and ``eval.captions``, and what other models
draw that are named; no other file and no device. The shape of an example is known for the built-in
sources; with a source that leaves it open, what depends on it is not checked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from sid2core.config import negative
from sid2core.config.checks import other_models
from sid2core.config.data import Shape, clip_shape
from sid2core.config.diffusion import Cosine, CosineInterpolated, Power
from sid2core.config.named_samplers import OwnGuidance
from sid2core.config.params import Distill, Model, Params
from sid2core.config.search import NULL, TRAINED, USUAL
from sid2core.config.section import ParamsError
from sid2core.config.training import Ema, Train
from sid2core.evaluation import prompts

_CUDNN_HEADS = (8, 128)
"""Heads of cuDNN's attention are a multiple of the first, up to the second."""


def check(params: Params, origin: str = "params.yaml") -> None:
    """Refuse parameters that cannot work together; ``origin`` is where they come from.

    Raises:
        ParamsError: lists every problem with its key, the expected value and the cure.
    """
    found = [*_of_any_data(params)]
    shape, drawn = params.data.shape, None
    if shape is not None:
        try:
            shape = clip_shape(shape, params.loader.clip_frames)
            found += [*_of_shape(params, shape)]
            given = params.data.given_frames
            drawn = (shape[0] - given, *shape[1:]) if given and len(shape) == 4 else shape
        except ParamsError as error:
            found.append(str(error))
    found += other_models.check(params, drawn)
    if found:
        lines = [f"  {line}" for line in found]
        msg = "\n".join([f"{origin} has {len(lines)} problem(s):", *lines])
        raise ParamsError(msg)


def _of_any_data(params: Params) -> Iterator[str]:
    data = params.data
    if data.row_group_records > data.shard_records:
        yield (
            f"data.row_group_records: found {data.row_group_records}; expected at most "
            f"shard_records, {data.shard_records}: lower it, or raise shard_records"
        )
    yield from _searched(params)
    yield from _budget(params)
    yield from _named(params)
    yield from _devices("train", params.train, params)
    yield from _devices("distill", params.distill, params)
    yield from _attention("model", params.model, params)
    yield from _profile(params)
    yield from _negative(params)
    yield from _prompts(params)


def _searched(params: Params) -> Iterator[str]:
    """Snapshots, averages and models that the search reads are made by the trainings."""
    search = params.guidance_search
    for index, one in enumerate(search.negatives):
        key = f"guidance_search.negatives.{index}"
        yield from _made(params, key, one)
        if one == params.train.steps and search.averages == [USUAL]:
            yield (
                f"{key}: found step {one}, the last one of the training, which is the model itself;"
                " expected an earlier one: guidance away from it has no effect"
            )
    for index, average in enumerate(search.averages):
        yield from _made(params, f"guidance_search.averages.{index}", average)


def _named(params: Params) -> Iterator[str]:
    """The same of ``eval.samplers``."""
    for index, entry in enumerate(params.eval.samplers or []):
        key = f"eval.samplers.{index}"
        yield from _made(params, f"{key}.weights", entry.weights)
        for place, guidance in enumerate(entry.guidance):
            if isinstance(guidance, OwnGuidance):
                yield from _made(params, f"{key}.guidance.{place}.negative", guidance.negative)


def _budget(params: Params) -> Iterator[str]:
    """The first round is within the budget: a search cannot do with less."""
    search, data = params.guidance_search, params.data
    maybe = data.unlabelled and data.captions != "required" and not data.given_frames
    key = "samples" if search.strategy == "grid" else "first"
    first, count = min(search.samples, getattr(search, key)), search.count(unconditional=maybe)
    if search.budget is not None and first * count > search.budget:
        yield (
            f"guidance_search.budget: found {search.budget}; expected at least {first * count}, "
            f"{first} images of each of {count} settings: raise it, lower guidance_search.{key}, "
            "or list fewer settings"
        )


def _made(params: Params, key: str, model: int | str | Ema) -> Iterator[str]:
    """What the trainings make: a snapshot, an average that is kept or can be made, a negative."""
    train = params.train
    kept, emas = train.snapshots or [], train.emas or []
    if isinstance(model, int) and model not in kept:
        yield (
            f"{key}: found step {model}; expected a step of train.snapshots, {train.snapshots}: "
            "add it there"
        )
    if model == TRAINED and params.train_negative.steps is None:
        yield (
            f"{key}: found {TRAINED}, but {TRAINED}.steps is null; expected a number of training "
            "steps: set it, or leave the negative out"
        )
    powers = bool(kept) and any(one.kind == "power" for one in emas)
    if isinstance(model, Ema) and model not in emas and not (powers and model.kind == "power"):
        yield (
            f"{key}: found {model.kind} {model.value}; expected one of train.emas, or a power "
            "function where train.emas has power functions and train.snapshots has steps: add it "
            "to train.emas"
        )


def _negative(params: Params) -> Iterator[str]:
    """The changes of ``train_negative`` fit what they change."""
    if params.train_negative.steps is None:
        return
    try:
        changed = negative.params_of(params)
    except ParamsError as error:
        yield str(error)
        return
    yield from _devices(TRAINED, changed.train, changed)
    yield from _attention(f"{TRAINED}.model", changed.model, changed)


def _devices(name: str, settings: Train | Distill, params: Params) -> Iterator[str]:
    """Parts of a batch are divided over a mesh whose size is given."""
    mesh = params.runtime.mesh
    devices = mesh.data * mesh.fsdp
    part = settings.batch_size // settings.accumulation
    if min(mesh.data, mesh.fsdp) < 1 or not part % devices or settings.batch_size % devices:
        return
    key = "train" if name == TRAINED else name
    yield (
        f"{key}.accumulation: found {settings.accumulation}, which makes parts of {part} "
        f"images; expected parts that divide over the {devices} devices of runtime.mesh: "
        f"lower it, or raise {name}.batch_size"
    )


def _attention(name: str, model: Model, params: Params) -> Iterator[str]:
    """What cuDNN's attention cannot compute of the model in the section ``name``."""
    multiple, largest = _CUDNN_HEADS
    if params.runtime.attention != "cudnn":
        return
    if model.compute_dtype != "bfloat16" and name == "model":
        yield (
            f"runtime.attention: found cudnn, which needs model.compute_dtype bfloat16, not "
            f"{model.compute_dtype}: set it to auto, or the type to bfloat16"
        )
    for width in model.attention_widths():
        size = model.size_of_heads(width)
        if size % multiple or size > largest:
            yield (
                f"runtime.attention: found cudnn, which needs heads of a multiple of {multiple} up "
                f"to {largest} channels, not {size}: set it to auto, or change {name}.head_size"
            )


def _profile(params: Params) -> Iterator[str]:
    """The longest training has the steps that are traced."""
    steps, profile = max(params.train.steps, params.distill.iterations), params.runtime.profile
    if profile is not None and profile[1] > steps:
        yield (
            f"runtime.profile: found {profile}; expected steps up to {steps}, the larger of "
            "train.steps and distill.iterations: lower it"
        )


def _prompts(params: Params) -> Iterator[str]:
    """Prompts and captions can be read."""
    try:
        prompts.read(params.eval.prompts)
        if params.eval.captions is not None:
            prompts.captions(params.eval.captions, params.eval.samples)
    except prompts.PromptError as error:
        yield str(error)


def _of_shape(params: Params, shape: Shape) -> Iterator[str]:
    """What the shape of an example decides."""
    yield from _given(params, shape)
    yield from _null(params)
    yield from _extractors(params, shape)
    yield from _levels(params, shape)
    yield from _loss(params, shape)
    yield from _schedule(params, shape[-3])
    side = min(shape[-3:-1])
    for name in ("loader", "reference"):
        shift = getattr(params, name).max_shift
        if shift >= side:
            yield (
                f"{name}.max_shift: found {shift}; expected less than the {side} pixels of the "
                "image: lower it"
            )


def _given(params: Params, shape: Shape) -> Iterator[str]:
    """Given frames are the first of a clip, and some remain."""
    given = params.data.given_frames
    if given and len(shape) == 3:
        yield (
            f"data.given_frames: found {given}; source {params.data.source.name} has images, no "
            "clips: set it to 0"
        )
    elif given >= shape[0] and len(shape) == 4:
        yield (
            f"data.given_frames: found {given}; expected less than the {shape[0]} frames of a "
            "clip: lower it, or use longer clips"
        )


def _null(params: Params) -> Iterator[str]:
    """Where frames are given, the null condition of guidance has been trained."""
    train, unlabelled = params.train, params.data.unlabelled
    given = train.condition_dropout if train.given_dropout is None else train.given_dropout
    rate = given if unlabelled else min(given, train.condition_dropout)
    guided = params.guidance.weight > 0 or NULL in params.guidance_search.negatives
    if params.data.given_frames and guided and rate == 0:
        key = "given_dropout" if train.given_dropout == 0 else "condition_dropout"
        yield (
            f"train.{key}: found 0; the null condition, which has no given frames, is then never "
            "trained, and guidance needs it: raise it, or set guidance.weight to 0 and "
            "guidance_search.negatives to steps or folders"
        )


def _extractors(params: Params, shape: Shape) -> Iterator[str]:
    """Extractors of clips have clips that are long enough."""
    frames = shape[0] if len(shape) == 4 else 0
    for name, settings in params.eval.extractors.active.items():
        least = getattr(settings, "least_frames", 0)
        if frames < least:
            data = f"clips have {frames} frames" if frames else "the data are images"
            yield (
                f"eval.extractors.{name}.weights: found a file; {data}, and {name} measures clips "
                f"of {least} frames or more: set it to null, or use longer clips"
            )


def _levels(params: Params, shape: Shape) -> Iterator[str]:
    """Every level of the network halves the image, and may thin out frames."""
    model, (*frames, height, width, _) = params.model, shape
    levels = len(model.channels)
    factor = model.patch_size * 2 ** (levels - 1)
    if height % factor or width % factor:
        yield (
            f"model.patch_size: found {model.patch_size} with {levels} levels, which needs sides "
            f"that divide by {factor}; images are {height} × {width}: change model.patch_size, the "
            "number of model.channels, or data.image_size"
        )
    thinning = math.prod(model.temporal_strides)
    count = frames[0] if frames else 1
    if count % thinning:
        what = f"clips have {count} frames" if frames else "images have no frames"
        yield (
            f"model.temporal_strides: found {model.temporal_strides}, which needs frames that "
            f"divide by {thinning}; {what}: change them"
            + (", or the number of frames" if frames else " to 1")
        )


def _loss(params: Params, shape: Shape) -> Iterator[str]:
    settings = params.diffusion.loss.settings
    if not isinstance(settings, Power):
        return
    height, width = shape[-3:-1]
    sides = math.gcd(height, width)
    most = (sides & -sides).bit_length() - 1
    if settings.levels > most:
        yield (
            f"diffusion.loss.power.levels: found {settings.levels}; expected at most {most} for "
            f"images of {height} × {width}: lower it, or change data.image_size"
        )


def _schedule(params: Params, height: int) -> Iterator[str]:
    """Log-SNR must fall, and guidance act somewhere on its range."""
    schedule = params.diffusion.schedule
    settings = schedule.settings
    if not isinstance(settings, Cosine):
        return
    if isinstance(settings, CosineInterpolated) and settings.rises(height):
        yield (
            f"diffusion.schedule.{schedule.name}.noise_res_low: found {settings.noise_res_low}, "
            f"with which log-SNR would rise for images {height} pixels high; expected a value "
            "closer to noise_res_high: change either"
        )
        return
    highest, lowest = settings.ends(height)
    for key, (low, high) in _intervals(params):
        if high <= lowest or low >= highest:
            yield (
                f"{key}: found [{low}, {high}]; expected an interval "
                f"that overlaps the schedule's log-SNR, {lowest:.2f} to {highest:.2f}: change it, "
                "or leave it out"
            )


def _intervals(params: Params) -> Iterator[tuple[str, list[float]]]:
    """All intervals of guidance with their keys."""
    for index, interval in enumerate(params.guidance_search.intervals):
        yield f"guidance_search.intervals.{index}", interval
    for index, entry in enumerate(params.eval.samplers or []):
        for place, guidance in enumerate(entry.guidance):
            if isinstance(guidance, OwnGuidance) and guidance.interval is not None:
                yield f"eval.samplers.{index}.guidance.{place}.interval", guidance.interval
