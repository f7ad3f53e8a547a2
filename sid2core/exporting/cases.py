"""Inputs of a model, and its outputs for them: what an export must repeat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from sid2core import conditioning, rng
from sid2core.conditioning import Condition, Given, Text, TextKind
from sid2core.diffusion import samplers
from sid2core.diffusion.guidance import ConstantGuidance, Negative
from sid2core.diffusion.noise import standard_normal
from sid2core.diffusion.parametrisation import diffuse
from sid2core.exporting.exported import Exported
from sid2core.typing import Array, LogSnr, Samples

Arrays = dict[str, NDArray[Any]]
LOGSNRS = (-12.0, -4.0, 0.0, 4.0, 9.0)
_DRAWN, _STEPS = 2, 4


def network_inputs(exported: Exported) -> Arrays:
    """``z``, ``logsnr`` and :func:`arrays` of a condition; the last row has the null condition."""
    count, draws = len(LOGSNRS), np.random.default_rng(0)
    condition = _condition(exported, count, draws)
    null = jax.device_get(exported.trained.condition.null(count))
    last = np.arange(count) == count - 1
    condition = jax.tree.map(
        lambda own, one: np.where(last.reshape(-1, *[1] * (own.ndim - 1)), one, own),
        condition,
        null,
    )
    logsnr = np.array(LOGSNRS, np.float32)
    shape = exported.trained.shape.image_shape
    x, eps = draws.uniform(-1.0, 1.0, (count, *shape)), draws.normal(size=(count, *shape))
    z = np.asarray(diffuse(*map(jnp.float32, (x, eps, logsnr))))
    return {"z": z, "logsnr": logsnr, **arrays(condition)}


def network_output(exported: Exported, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """What our network gives, in full float32."""
    trained = exported.trained
    z, logsnr = (jnp.asarray(inputs[name]) for name in ("z", "logsnr"))
    with jax.default_matmul_precision("highest"):
        apply = jax.jit(trained.denoiser.network.apply)
        return np.asarray(apply(trained.params, z, logsnr, condition_of(inputs)))


def drawing_inputs(exported: Exported, *, free: bool) -> Arrays:
    """The noise of a drawing and :func:`arrays` of its condition.

    ``keys`` are what our samplers take, uint32 [b, 2], and ``noise`` what they make of them:
    [steps, b, …], of the start and of each step but the last. ``guidance`` is the weight.

    Args:
        exported: the model.
        free: whether the export can draw in other numbers of steps and with other guidance; then
            it is to draw in few steps, and guided if the model has a null condition.
    """
    request, shape = exported.request, exported.trained.shape.image_shape
    steps, weight = request.steps or 1, request.guidance
    if free:
        steps = min(steps, _STEPS)
        weight = weight or 1.0 * bool(exported.trained.condition)
    keys = rng.keys(rng.key(0, "export"), np.arange(_DRAWN))
    noise = [
        np.stack([standard_normal(jax.random.fold_in(key, step), shape) for key in keys])
        for step in range(steps)
    ]
    condition = _condition(exported, _DRAWN, np.random.default_rng(1))
    return {
        "keys": np.asarray(jax.random.key_data(keys)),
        "noise": np.stack(noise),
        "guidance": np.array(weight, np.float32),
        **arrays(condition),
    }


def drawing(exported: Exported, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """The images that our sampler draws, in [-1, 1]."""
    trained, method, weight = exported.trained, exported.method, float(inputs["guidance"])
    if weight and method.guidance.negative is Negative.NONE:
        method = replace(method, guidance=ConstantGuidance(weight))
    method, condition = replace(method, steps=len(inputs["noise"])), condition_of(inputs)
    keys = jax.random.wrap_key_data(jnp.asarray(inputs["keys"]))
    null = trained.condition.null(len(inputs["keys"]))

    def positive(z: Samples, logsnr: LogSnr) -> Samples:
        return trained.denoiser(trained.params, z, logsnr, condition)

    def negative(z: Samples, logsnr: LogSnr) -> Samples:
        return trained.denoiser(trained.params, z, logsnr, null)

    with jax.default_matmul_precision("highest"):
        images = jax.jit(
            lambda keys: samplers.sample_guided(
                keys,
                positive,
                negative if weight else None,
                trained.shape.image_shape,
                plan=method.plan,
                weight=weight,
                clip_x=method.clip_x,
            )
        )(keys)
    return np.asarray(images)


def arrays(condition: Condition) -> Arrays:
    """A condition under the names of the exported network's arguments.

    ``labels`` int32 [b]; ``text`` ids [b, n] or vectors float32 [b, n, d], and ``text_mask``;
    ``given`` uint8 [b, k, h, w, c], and ``there`` bool [b]. Only those that the model takes.
    """
    found: dict[str, Any] = {}
    if condition.label is not None:
        found["labels"] = condition.label
    if condition.text is not None:
        found |= {"text": condition.text.tokens, "text_mask": condition.text.mask}
    if condition.given is not None:
        found |= {"given": condition.given.frames, "there": condition.given.there}
    found = {name: np.asarray(value) for name, value in found.items()}
    if "text" in found and found["text"].dtype != np.int32:
        found["text"] = found["text"].astype(np.float32)
    return found


def condition_of(found: Mapping[str, NDArray[Any] | Array]) -> Condition:
    """The inverse of :func:`arrays`."""
    one = {name: jnp.asarray(value) for name, value in found.items()}
    return Condition(
        label=one.get("labels"),
        text=Text(one["text"], one["text_mask"]) if "text" in one else None,
        given=Given(one["given"], one["there"]) if "given" in one else None,
    )


def _condition(exported: Exported, count: int, draws: np.random.Generator) -> Condition:
    """Classes, captions of different lengths and frames, on the host."""
    spec, made = exported.trained.condition, Condition()
    if spec.label is not None:
        labels = np.linspace(0, spec.label.classes - 1, count).astype(np.int32)
        made = made._replace(label=labels)
    if spec.text is not None:
        made = made._replace(text=_text(spec.text, count, draws))
    if spec.given is not None:
        frames = draws.integers(0, 256, (count, *spec.given.shape), np.uint8)
        made = made._replace(given=Given(frames, np.ones(count, bool)))
    return made


def _text(kind: TextKind, count: int, draws: np.random.Generator) -> Text:
    lengths = np.linspace(kind.tokens, 1, count).astype(int)
    mask = np.arange(kind.tokens) < lengths[:, None]
    shape = (count, kind.tokens)
    if kind.learned:
        ids = draws.integers(2, kind.vocabulary or 3, shape, np.int32)
        return Text(np.where(mask, ids, np.int32(0)), mask)
    half = conditioning.null_tokens(kind).dtype
    vectors = draws.normal(size=(*shape, kind.channels)).astype(half)
    return Text(np.where(mask[..., None], vectors, 0).astype(half), mask)
