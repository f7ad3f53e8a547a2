"""The loop that all samplers share: noise, guidance, clipping and the steps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sid2core.diffusion.clipping import ClipX, StaticClip
from sid2core.diffusion.guidance import combine
from sid2core.diffusion.noise import standard_normal
from sid2core.diffusion.parametrisation import widen
from sid2core.diffusion.samplers.plan import Run, SamplingPlan
from sid2core.diffusion.samplers.protocol import Denoise, Keys, Sampler, Step
from sid2core.typing import Array, Samples

__all__ = ["sample", "sample_guided"]

_STATIC = StaticClip()


def sample(
    keys: Keys,
    denoise: Denoise,
    shape: tuple[int, ...],
    *,
    plan: SamplingPlan,
    clip_x: ClipX = _STATIC,
    init: Samples | None = None,
) -> Samples:
    """Images from one network, without guidance: :func:`sample_guided` without a negative.

    Args:
        keys: one typed PRNG key per image, [b].
        denoise: the model, z [b, …] and log-SNR [b] to x_hat [b, …].
        shape: shape of one image.
        plan: sampler, grid and schedule; its interval must be empty.
        clip_x: how x_hat is clipped; statically, to [-1, 1], by default.
        init: z at plan.t_start, [b, …]; standard normal noise by default.

    Returns:
        Images [b, …], float32.
    """
    return sample_guided(
        keys, denoise, None, shape, plan=plan, weight=0.0, clip_x=clip_x, init=init
    )


def sample_guided(
    keys: Keys,
    positive: Denoise,
    negative: Denoise | None,
    shape: tuple[int, ...],
    *,
    plan: SamplingPlan,
    weight: ArrayLike,
    clip_x: ClipX = _STATIC,
    init: Samples | None = None,
) -> Samples:
    """Images from the steps of a plan (SiD2 supplement B.4, B.6).

    Each evaluation is x_hat = (1 + g) positive - g negative where guidance acts and positive
    elsewhere, then clipped. The last step returns x_hat itself, without noise. The steps fall into
    runs that are known before compilation, each a scan of its own, and the negative network is not
    evaluated in runs without guidance. The function is traceable and meant to be called inside one
    jit, with ``shape``, ``plan`` and ``clip_x`` static.

    Image i depends on keys[i] alone: its initial noise on fold_in(key, 0) and the noise of step i
    on fold_in(key, i + 1). Batch size, order and sharding do not matter.

    Args:
        keys: one typed PRNG key per image, [b].
        positive: the conditional model, z [b, …] and log-SNR [b] to x_hat [b, …].
        negative: the model to push away from; None if guidance never acts.
        shape: shape of one image.
        plan: sampler, grid, schedule and where guidance acts.
        weight: the strength g of guidance, a traced number; one compilation serves all strengths.
        clip_x: how x_hat is clipped after guidance; statically, to [-1, 1], by default.
        init: z at plan.t_start, [b, …]. Without it the start is standard normal noise, which is
            right only where almost no signal is left.

    Returns:
        Images [b, …], float32.

    Raises:
        ValueError: for keys that are not a vector of typed keys, an ``init`` of another shape, or
            guidance without a negative model.
    """
    _check_keys(keys)
    runs = plan.runs
    if negative is None and any(any(run.guided) for run in runs):
        raise ValueError(
            f"guidance acts on log-SNR {plan.interval} and negative is None: pass the model that "
            "Guidance.negative names, or a plan with the interval of NoGuidance()"
        )
    logsnr = jnp.asarray(plan.logsnr, jnp.float32)
    z = _start(keys, shape, init)
    carry = z, plan.sampler.init(z), jnp.zeros_like(z)
    for run in runs:
        denoise = [
            _predict(positive, negative if guided else None, weight, clip_x)
            for guided in run.guided
        ]
        body = _body(denoise, plan.sampler, keys, shape)
        carry, _ = jax.lax.scan(body, carry, _grid(run, logsnr))
    return carry[-1]


Carry = tuple[Samples, Any, Samples]
"""z_t, the sampler's state and the last x_hat."""


def _body(
    denoise: list[Denoise], sampler: Sampler, keys: Keys, shape: tuple[int, ...]
) -> Callable[[Carry, tuple[Array, Array, Array]], tuple[Carry, None]]:
    """The body of a run's scan, with the model of each evaluation within a step."""

    def body(carry: Carry, at: tuple[Array, Array, Array]) -> tuple[Carry, None]:
        z, state, _ = carry
        index, *levels = at
        logsnr_t, logsnr_s = (jnp.broadcast_to(level, keys.shape) for level in levels)
        x_hat = denoise[0](z, logsnr_t)
        if len(denoise) < sampler.evaluations_per_step:  # the last step: x_hat is the result
            return (z, state, x_hat), None
        noise = _noise(keys, index + 1, shape)
        step = Step(logsnr_t, logsnr_s, noise, denoise[1] if len(denoise) > 1 else None)
        return (*sampler.step(z, x_hat, state, step), x_hat), None

    return body


def _grid(run: Run, logsnr: Array) -> tuple[Array, Array, Array]:
    """Index and log-SNR at the start and the end of each step of a run."""
    start, stop = run.start, run.stop
    return jnp.arange(start, stop), logsnr[start:stop], logsnr[start + 1 : stop + 1]


def _predict(
    positive: Denoise, negative: Denoise | None, weight: ArrayLike, clip_x: ClipX
) -> Denoise:
    """The x_hat of one evaluation: guided if there is a negative, then clipped."""

    def denoise(z: Samples, logsnr: Array) -> Samples:
        x_hat = widen(positive(z, logsnr))
        if negative is not None:
            x_hat = combine(x_hat, negative(z, logsnr), weight)
        return clip_x(x_hat)

    return denoise


def _start(keys: Keys, shape: tuple[int, ...], init: Samples | None) -> Samples:
    if init is None:
        return _noise(keys, 0, shape)
    if init.shape != keys.shape + tuple(shape):
        raise ValueError(f"init has shape {init.shape}, expected {keys.shape + tuple(shape)}")
    return widen(init)


def _noise(keys: Keys, index: int | Array, shape: tuple[int, ...]) -> Samples:
    """Standard normal noise [b, …]: that of image i depends on its own key and the index alone."""

    def noise(key: Array) -> Array:
        return standard_normal(jax.random.fold_in(key, index), shape)

    return jax.vmap(noise)(keys)


def _check_keys(keys: Keys) -> None:
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) or keys.ndim != 1:
        raise ValueError(
            f"keys have dtype {keys.dtype} and shape {keys.shape}, expected a vector of typed "
            "keys, one per image: jax.random.split(jax.random.key(seed), images)"
        )
    if "rbg" in str(jax.random.key_impl(keys)):
        raise ValueError(
            f"keys are of kind {jax.random.key_impl(keys)}, whose numbers depend on the whole "
            "batch of keys; expected threefry keys: jax.random.key(seed, impl='threefry2x32')"
        )
