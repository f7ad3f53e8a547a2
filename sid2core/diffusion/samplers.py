"""Samplers: from noise to images, one key an image.

A sampler is one step, z_t → z_s with s < t, as a frozen dataclass; the loop around it is shared.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sid2core.diffusion.guidance import Guidance, NoGuidance, combine, segments
from sid2core.diffusion.noise import standard_normal
from sid2core.diffusion.parametrisation import alpha_sigma, eps_from_x, per_example, widen
from sid2core.diffusion.schedule import Schedule, step_times
from sid2core.typing import Array, Key, LogSnr, Samples

__all__ = ["ADDIM", "DDIM", "DDPM", "Denoise", "Sampler", "sample", "sample_guided"]

Denoise = Callable[[Samples, LogSnr], Samples]
"""x_hat = denoise(z [b, …], logsnr [b])."""
Keys = Key[Array, "b"]
"""Typed PRNG keys, one an image."""


@runtime_checkable
class Sampler(Protocol):
    """One step of a sampler."""

    def step(
        self, z: Samples, x_hat: Samples, noise: Samples, logsnr_t: LogSnr, logsnr_s: LogSnr
    ) -> Samples:
        """z_s from z_t, the prediction and fresh standard normal noise (unused if not needed)."""
        ...


@dataclass(frozen=True)
class DDPM:
    """``z_s = r (alpha_s / alpha_t) z + (1 - r) alpha_s x_hat + exp(logvar / 2) noise``.

    r = exp(lam_t - lam_s); logvar = f hi + (1 - f) lo, lo = log((1 - r) sigma_s^2), the posterior
    variance of z_s given z_t and x, hi = log((1 - r) sigma_t^2). SiD2 supplement B.6 has
    f = logvar_fraction = 0.3; at f = 0 a step draws from q(z_s | z_t, x = x_hat).
    """

    logvar_fraction: float = 0.3

    def __post_init__(self) -> None:
        """Refuse a variance outside its two bounds."""
        if not 0.0 <= self.logvar_fraction <= 1.0:
            raise ValueError(f"logvar_fraction is {self.logvar_fraction}, expected 0 to 1")

    def step(
        self, z: Samples, x_hat: Samples, noise: Samples, logsnr_t: LogSnr, logsnr_s: LogSnr
    ) -> Samples:
        """One ancestral step from log-SNR [b] lam_t up to lam_s."""
        alpha_s, _ = alpha_sigma(logsnr_s)
        gain = -jnp.expm1(logsnr_t - logsnr_s)  # 1 - r
        log_alpha_ratio = 0.5 * (jax.nn.log_sigmoid(logsnr_s) - jax.nn.log_sigmoid(logsnr_t))
        keep = jnp.exp(logsnr_t - logsnr_s + log_alpha_ratio)
        low, high = jax.nn.log_sigmoid(-logsnr_s), jax.nn.log_sigmoid(-logsnr_t)
        mixed = self.logvar_fraction * high + (1.0 - self.logvar_fraction) * low
        spread = jnp.sqrt(gain) * jnp.exp(0.5 * mixed)
        return (
            per_example(keep, z) * z
            + per_example(gain * alpha_s, z) * x_hat
            + per_example(spread, z) * noise
        )


@dataclass(frozen=True)
class DDIM:
    """``z_s = alpha_s x_hat + sigma_s eps_hat, eps_hat = (z - alpha_t x_hat) / sigma_t``."""

    def step(
        self, z: Samples, x_hat: Samples, noise: Samples, logsnr_t: LogSnr, logsnr_s: LogSnr
    ) -> Samples:
        """One deterministic step from log-SNR [b] lam_t up to lam_s."""
        alpha_s, sigma_s = alpha_sigma(logsnr_s)
        eps_hat = eps_from_x(z, x_hat, logsnr_t)
        return per_example(alpha_s, z) * x_hat + per_example(sigma_s, z) * eps_hat


@dataclass(frozen=True)
class ADDIM:
    """``z_s = alpha_s x_hat + sqrt(sigma_s^2 + (d / ||eps_hat||^2) z_var) eps_hat``.

    z_var = (alpha_s - alpha_t sigma_s / sigma_t)^2 x_var, x_var = eta / (2 + SNR_t): DDIM with the
    noise widened by the variance that x_hat, a mean, has lost. arXiv 2403.06807; 128 steps for
    Kinetics in SiD2 supplement B.7. The norm is each example's own, over its d elements.
    """

    eta: float = 0.1

    def __post_init__(self) -> None:
        """Refuse a negative variance."""
        if self.eta < 0.0:
            raise ValueError(f"eta is {self.eta}, expected 0 or more (0 is DDIM)")

    def step(
        self, z: Samples, x_hat: Samples, noise: Samples, logsnr_t: LogSnr, logsnr_s: LogSnr
    ) -> Samples:
        """One deterministic step from log-SNR [b] lam_t up to lam_s."""
        alpha_t, sigma_t = alpha_sigma(logsnr_t)
        alpha_s, sigma_s = alpha_sigma(logsnr_s)
        eps_hat = eps_from_x(z, x_hat, logsnr_t)
        x_var = self.eta / (2.0 + jnp.exp(logsnr_t))
        z_var = jnp.square(alpha_s - alpha_t * sigma_s / sigma_t) * x_var
        mean_square = jnp.mean(jnp.square(eps_hat), axis=tuple(range(1, eps_hat.ndim)))
        # Where no noise is found there is none to widen: the floor keeps 0 times the width at 0.
        width = jnp.sqrt(jnp.square(sigma_s) + z_var / jnp.maximum(mean_square, 1e-30))
        return per_example(alpha_s, z) * x_hat + per_example(width, z) * eps_hat


def sample(
    keys: Keys,
    denoise: Denoise,
    shape: tuple[int, ...],
    *,
    schedule: Schedule,
    sampler: Sampler,
    steps: int,
    clip: bool = True,
    t_start: float = 1.0,
    init: Samples | None = None,
) -> Samples:
    """Images from one network, without guidance: :func:`sample_guided` with :class:`NoGuidance`.

    Args:
        keys: one typed PRNG key an image, [b].
        denoise: the model, z [b, …] and log-SNR [b] to x_hat [b, …].
        shape: shape of one image.
        schedule: the noise schedule.
        sampler: one of :class:`DDPM`, :class:`DDIM`, :class:`ADDIM`.
        steps: number of steps, each one evaluation of the model.
        clip: whether x_hat is clipped to [-1, 1].
        t_start: time of the first step.
        init: z at t_start, [b, …]; standard normal noise by default.

    Returns:
        Images [b, …], float32.
    """
    return sample_guided(
        keys,
        denoise,
        None,
        shape,
        guidance=NoGuidance(),
        schedule=schedule,
        sampler=sampler,
        steps=steps,
        clip=clip,
        t_start=t_start,
        init=init,
    )


def sample_guided(
    keys: Keys,
    positive: Denoise,
    negative: Denoise | None,
    shape: tuple[int, ...],
    *,
    guidance: Guidance,
    schedule: Schedule,
    sampler: Sampler,
    steps: int,
    clip: bool = True,
    t_start: float = 1.0,
    init: Samples | None = None,
    weight: ArrayLike | None = None,
) -> Samples:
    """Images from a uniform grid of ``steps`` times, t_start down to 0 (SiD2 supplement B.4, B.6).

    At each step x_hat = (1 + g) positive - g negative where guidance acts and positive elsewhere,
    is clipped, and moves z on; the last step returns x_hat itself, without noise. The negative is
    not evaluated outside the interval: the steps fall into runs known before compilation, each a
    scan of its own. The function is traceable and meant to be called inside one jit, with all
    keyword arguments but ``init`` and ``weight`` static.

    Image i depends on keys[i] alone: its initial noise on fold_in(key, 0) and the noise of step i
    on fold_in(key, i + 1), so neither the batch, nor its order, nor its sharding matters.

    Args:
        keys: one typed PRNG key an image, [b].
        positive: the conditional model, z [b, …] and log-SNR [b] to x_hat [b, …].
        negative: the model to push away from; None if guidance never acts.
        shape: shape of one image.
        guidance: strength and interval.
        schedule: the noise schedule.
        sampler: one of :class:`DDPM`, :class:`DDIM`, :class:`ADDIM`.
        steps: number of steps.
        clip: whether x_hat is clipped to [-1, 1], after guidance.
        t_start: time of the first step. Below 1 the caller usually gives ``init``, a noised image;
            without it the start is standard normal noise all the same, which is right only where
            almost no signal is left.
        init: z at t_start, [b, …].
        weight: the strength as a traced number, in place of ``guidance.weight``, which then only
            says (by being zero or not) whether guidance acts: one compilation serves all weights.

    Returns:
        Images [b, …], float32.

    Raises:
        ValueError: for keys that are not a vector of typed keys, an ``init`` of another shape, or
            guidance without a negative model.
    """
    _check_keys(keys)
    runs = segments(guidance, schedule, steps, t_start)
    if negative is None and any(run.guided for run in runs):
        raise ValueError(
            f"{guidance} acts but there is no negative model: pass the {guidance.negative} one "
            "as negative, or NoGuidance() as guidance"
        )
    strength = guidance.weight if weight is None else weight
    logsnr = jnp.asarray(schedule.logsnr_exact(step_times(steps, t_start)), jnp.float32)
    z = _start(keys, shape, init)
    x_hat = jnp.zeros_like(z)
    for run in runs:
        denoise = _predict(positive, negative if run.guided else None, strength, clip)
        advance = _advance(denoise, sampler, keys, shape)
        index = jnp.arange(run.start, run.stop)
        levels = logsnr[run.start : run.stop], logsnr[run.start + 1 : run.stop + 1]
        (z, x_hat), _ = jax.lax.scan(advance, (z, x_hat), (index, *levels))
    return x_hat


def _predict(positive: Denoise, negative: Denoise | None, weight: ArrayLike, clip: bool) -> Denoise:
    """The x_hat of a step: guided if there is a negative, then clipped."""

    def denoise(z: Samples, logsnr: LogSnr) -> Samples:
        x_hat = widen(positive(z, logsnr))
        if negative is not None:
            x_hat = combine(x_hat, negative(z, logsnr), weight)
        return jnp.clip(x_hat, -1.0, 1.0) if clip else x_hat

    return denoise


def _advance(
    denoise: Denoise, sampler: Sampler, keys: Keys, shape: tuple[int, ...]
) -> Callable[[tuple[Array, Array], tuple[Array, Array, Array]], tuple[tuple[Array, Array], None]]:
    """The body of the scan: (z_t, the last x_hat) to (z_s, the new one)."""

    def advance(
        carry: tuple[Array, Array], step: tuple[Array, Array, Array]
    ) -> tuple[tuple[Array, Array], None]:
        z, _ = carry
        index, *levels = step
        logsnr_t, logsnr_s = (jnp.broadcast_to(level, keys.shape) for level in levels)
        x_hat = denoise(z, logsnr_t)
        noise = _noise(keys, index + 1, shape)
        return (sampler.step(z, x_hat, noise, logsnr_t, logsnr_s), x_hat), None

    return advance


def _start(keys: Keys, shape: tuple[int, ...], init: Samples | None) -> Samples:
    if init is None:
        return _noise(keys, 0, shape)
    if init.shape != keys.shape + tuple(shape):
        raise ValueError(f"init has shape {init.shape}, expected {keys.shape + tuple(shape)}")
    return widen(init)


def _noise(keys: Keys, index: int | Array, shape: tuple[int, ...]) -> Samples:
    """Standard normal noise [b, …]: image i's from its own key and the index alone."""

    def draw(key: Array) -> Array:
        return standard_normal(jax.random.fold_in(key, index), shape)

    return jax.vmap(draw)(keys)


def _check_keys(keys: Keys) -> None:
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) or keys.ndim != 1:
        raise ValueError(
            f"keys have dtype {keys.dtype} and shape {keys.shape}, expected a vector of typed "
            "keys, one an image: jax.random.split(jax.random.key(seed), images)"
        )
    if "rbg" in str(jax.random.key_impl(keys)):
        raise ValueError(
            f"keys are of kind {jax.random.key_impl(keys)}, whose draws depend on the whole batch "
            "of keys; expected threefry keys: jax.random.key(seed, impl='threefry2x32')"
        )
