"""Drawing one step at a time, so that each estimate can be seen and a drawing can be stopped.

The steps are those of :func:`sid2core.diffusion.samplers.sample_guided`, with the same random keys;
here each is a call of a compiled function. Its compilation serves any number of steps, any seed and
any strength of guidance, so a server compiles little and keeps few programs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from sid2core import conditioning, rng
from sid2core.conditioning import Condition
from sid2core.data.load.pixels import to_uint8
from sid2core.diffusion.clipping import ClipX
from sid2core.diffusion.samplers import Sampler, stepping
from sid2core.inference.denoiser import Denoiser
from sid2core.inference.generator import Method
from sid2core.models.network import Parameters
from sid2core.typing import Array


def drawn(
    method: Method,
    params: Parameters,
    seed: int,
    condition: Condition,
    negative: Condition | None,
    count: int,
) -> Iterator[NDArray[np.uint8]]:
    """The estimate of the images or clips after each step, uint8 [n, …]; the last is the result.

    Args:
        method: how to draw.
        params: the weights.
        seed: image i depends on (seed, i) alone, as with ``Model.sample``.
        condition: of the images, on the host.
        negative: what guidance pushes away from; None is the null condition.
        count: n. So many are drawn at once, and up to the next power of two.
    """
    padded = 1 << (count - 1).bit_length()
    place = np.arange(padded) % count
    spec = method.denoiser.network.config.condition
    condition, negative = conditioning.taken(
        (condition, spec.null(count) if negative is None else negative), place
    )
    keys = rng.keys(rng.key(seed, "sample"), place)
    shape = method.denoiser.network.config.image_shape
    plan, weight = method.plan, np.float32(method.guidance.weight)
    logsnr = np.asarray(plan.logsnr, np.float32)
    state = _start(plan.sampler, shape, keys)
    given = conditioning.taken(condition, slice(count))
    for run in plan.runs:
        for index in range(run.start, run.stop):
            at = np.int32(index), logsnr[index], logsnr[index + 1]
            state, pixels = _step(
                *(method.denoiser, plan.sampler, method.clip_x, run.guided),
                *(params, weight, keys, condition, negative, state, at),
            )
            yield conditioning.whole(np.asarray(pixels)[:count], given)


@partial(jax.jit, static_argnums=(0, 1))
def _start(sampler: Sampler, shape: tuple[int, ...], keys: Array) -> stepping.Drawn:
    return stepping.first(keys, sampler, shape, None, jnp.zeros(len(keys)))


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _step(
    denoiser: Denoiser,
    sampler: Sampler,
    clip_x: ClipX,
    guided: tuple[bool, ...],
    params: Parameters,
    weight: Any,
    keys: Array,
    condition: Condition,
    negative: Condition,
    state: stepping.Drawn,
    at: tuple[Any, Any, Any],
) -> tuple[stepping.Drawn, Array]:
    def of(condition: Condition) -> Any:
        return lambda z, logsnr: denoiser(params, z, logsnr, condition)

    index, start, end = at
    levels = jnp.broadcast_to(start, keys.shape), jnp.broadcast_to(end, keys.shape)
    settings = {"sampler": sampler, "guided": guided, "weight": weight, "clip_x": clip_x}
    state = stepping.advance(state, keys, index, levels, of(condition), of(negative), **settings)
    return state, to_uint8(state.x_hat)
