"""The steps of a plan one at a time: to show or stop a drawing, and to draw into known pixels.

:func:`sid2core.diffusion.samplers.sample_guided` compiles the same steps as one program.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sid2core.diffusion.clipping import ClipX
from sid2core.diffusion.guidance import combine
from sid2core.diffusion.noise import standard_normal
from sid2core.diffusion.parametrisation import alpha_sigma, diffuse, per_example, widen
from sid2core.diffusion.samplers.protocol import Denoise, Keys, Sampler, State, Step
from sid2core.typing import Array, LogSnr, Samples

__all__ = ["Drawn", "advance", "first", "noise", "noised_again", "repeated", "replaced"]

_REPEATED = 2**24
"""Index of the first key of repeated steps: far above the steps of any plan."""


class Drawn(NamedTuple):
    """A drawing between two steps."""

    z: Samples
    """z_t [b, …]."""
    state: State
    x_hat: Samples
    """The last prediction of x [b, …]; after the last step it is the result."""


def noise(keys: Keys, index: ArrayLike, shape: tuple[int, ...]) -> Samples:
    """Standard normal noise [b, …] from fold_in(key, index) of each image."""
    made: Samples = jax.vmap(lambda key: standard_normal(jax.random.fold_in(key, index), shape))(
        keys
    )
    return made


def first(
    keys: Keys, sampler: Sampler, shape: tuple[int, ...], init: Samples | None, logsnr: LogSnr
) -> Drawn:
    """The start of a drawing: ``z = eps``, or ``z = alpha x + sigma eps`` of an image x.

    The second is SDEdit (arXiv 2108.01073).

    Args:
        keys: one typed PRNG key for each image, [b].
        sampler: makes its state.
        shape: of one image.
        init: images x [b, …] to start from; None for noise alone.
        logsnr: of the first step, [b]; used with ``init`` alone.
    """
    eps = noise(keys, 0, shape)
    z = eps if init is None else diffuse(init, eps, logsnr)
    return Drawn(z, sampler.init(z), jnp.zeros_like(z))


def advance(
    drawn: Drawn,
    keys: Keys,
    index: ArrayLike,
    levels: tuple[LogSnr, LogSnr],
    positive: Denoise,
    negative: Denoise | None,
    *,
    sampler: Sampler,
    guided: Sequence[bool],
    weight: ArrayLike,
    clip_x: ClipX,
) -> Drawn:
    """One step from log-SNR lam_t to lam_s, with the noise of fold_in(key, index + 1).

    The predictions are ``x_hat = (1 + g) positive - g negative`` where guidance acts (SiD2
    supplement B.4), then clipped. A last step has fewer evaluations than the sampler's others; it
    changes x_hat alone.

    Args:
        drawn: before the step.
        keys: as for :func:`first`.
        index: of the step.
        levels: lam_t and lam_s, [b] each.
        positive: the conditional model.
        negative: the model to push away from; None if guidance never acts.
        sampler: makes z_s.
        guided: for each evaluation whether guidance acts there, ``Run.guided``.
        weight: the strength g of guidance.
        clip_x: how x_hat is clipped.
    """

    def predict(z: Samples, logsnr: LogSnr, where: bool) -> Samples:
        x_hat = widen(positive(z, logsnr))
        if where and negative is not None:
            x_hat = combine(x_hat, negative(z, logsnr), weight)
        return clip_x(x_hat)

    def second(z: Samples, logsnr: LogSnr) -> Samples:
        return predict(z, logsnr, guided[1])

    x_hat = predict(drawn.z, levels[0], guided[0])
    if len(guided) < sampler.evaluations_per_step:
        return drawn._replace(x_hat=x_hat)
    eps = noise(keys, jnp.asarray(index) + 1, drawn.z.shape[1:])
    step = Step(*levels, eps, second if len(guided) > 1 else None)
    z, state = sampler.step(drawn.z, x_hat, drawn.state, step)
    return Drawn(z, state, x_hat)


def repeated(keys: Keys, repeat: ArrayLike) -> Keys:
    """The keys of the repetition ``repeat`` of a step; 0 has the drawing's own."""
    other: Keys = jax.vmap(jax.random.fold_in, (0, None))(keys, jnp.asarray(repeat) + _REPEATED)
    return jnp.where(jnp.asarray(repeat) == 0, keys, other)


def replaced(z: Samples, known: Samples, mask: Array, eps: Samples, logsnr: LogSnr) -> Samples:
    """``m z + (1 - m) (alpha x + sigma eps)``: known pixels under the noise of this level.

    Args:
        z: z_s [b, …].
        known: images x [b, …].
        mask: m, 1 where pixels are drawn and 0 where they are known; as z, or broadcast to it.
        eps: standard normal noise [b, …].
        logsnr: lam_s [b].
    """
    return jnp.where(mask > 0.5, z, diffuse(known, eps, logsnr))


def noised_again(z: Samples, eps: Samples, levels: tuple[LogSnr, LogSnr]) -> Samples:
    """``z_t = (alpha_t / alpha_s) z_s + sqrt(sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2) eps``.

    The forward process back to the start of a step, after which the step is repeated: RePaint
    (arXiv 2201.09865, algorithm 1). Repetitions let the drawn pixels fit the known ones.

    Args:
        z: z_s [b, …].
        eps: standard normal noise [b, …].
        levels: lam_t and lam_s, [b] each.
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = (alpha_sigma(level) for level in levels)
    ratio = alpha_t / alpha_s
    spread = jnp.sqrt(jnp.maximum(sigma_t**2 - (ratio * sigma_s) ** 2, 0.0))
    return per_example(ratio, z) * z + per_example(spread, z) * eps
