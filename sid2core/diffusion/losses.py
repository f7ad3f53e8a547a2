"""Training losses, per example: the weighted squared error and the power loss.

First the functions, as in the paper; below, the same losses as objects with one signature
(:class:`TrainingLoss`), which training uses.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sid2core.diffusion import haar, weighting
from sid2core.diffusion.parametrisation import Prediction, velocity, widen, x_from
from sid2core.diffusion.weighting import TimeShiftedBias, Weighting
from sid2core.typing import Array, Float, LogSnr, Samples

__all__ = [
    "Noised",
    "Normalisation",
    "PowerLoss",
    "TrainingLoss",
    "WeightedLoss",
    "power_loss",
    "sigmoid_loss",
    "weighted_mse",
]

_LARGEST = 88.0
"""An exponent whose exponential is finite in float32."""


class Normalisation(StrEnum):
    """How the power loss of an example depends on its number of elements."""

    MEAN = "mean"
    SUM = "sum"


PerExample = Float[Array, "b"]
"""One number per example."""


def weighted_mse(
    x: Samples,
    x_hat: Samples,
    logsnr: LogSnr,
    neg_dlogsnr_dt: PerExample,
    weight: PerExample,
    space: Prediction | str = Prediction.X,
) -> PerExample:
    """``L = 1/2 (-lam') w(lam) mean((eps - eps_hat)^2)``, from the error in x, v or eps.

    SiD2 supplement A, equations 6 to 8. For one z the three errors are proportional:
    (eps - eps_hat)^2 = e^lam (x - x_hat)^2 = sigmoid(lam) (v - v_hat)^2. Comparing in v, if the
    network predicts v, avoids the cancellation of alpha z - sigma v against x near data.

    Args:
        x: the targets [b, …].
        x_hat: their prediction [b, …].
        logsnr: log-SNR of each example [b].
        neg_dlogsnr_dt: the schedule's -dlam/dt at the sampled times [b], which makes the expected
            loss depend on the schedule only through its end points.
        weight: w(lam), the weight on the eps error [b].
        space: what the targets are: ``x`` (the default), ``v`` or ``eps``.

    Returns:
        The loss of each example [b], float32: a mean over its elements.

    Raises:
        ValueError: if x_hat is not of x's shape, or there is not one value for each example.
    """
    _check_per_example(x, logsnr=logsnr, neg_dlogsnr_dt=neg_dlogsnr_dt, weight=weight)
    match Prediction(space):
        case Prediction.X:
            log_scale = widen(logsnr)
        case Prediction.V:
            log_scale = jax.nn.log_sigmoid(widen(logsnr))
        case Prediction.EPS:
            log_scale = jnp.zeros_like(widen(logsnr))
    scale = _times_exp(widen(weight), log_scale)
    return 0.5 * widen(neg_dlogsnr_dt) * scale * _mean_square(_error(x, x_hat))


def sigmoid_loss(
    x: Samples,
    x_hat: Samples,
    logsnr: LogSnr,
    neg_dlogsnr_dt: PerExample,
    bias: ArrayLike,
) -> PerExample:
    """``L = -1/2 lam' e^b sigmoid(lam - b) mean((x - x_hat)^2)``: the printed sigmoid loss.

    SiD2 supplement B.1.

    Equal to :func:`weighted_mse` with w = sigmoid(b - lam), because e^lam sigmoid(b - lam) =
    e^b sigmoid(lam - b).

    Args:
        x: clean examples [b, …].
        x_hat: their prediction [b, …].
        logsnr: log-SNR of each example [b].
        neg_dlogsnr_dt: the schedule's -dlam/dt at the sampled times [b].
        bias: b, one number.

    Returns:
        The loss of each example [b], float32.
    """
    _check_per_example(x, logsnr=logsnr, neg_dlogsnr_dt=neg_dlogsnr_dt)
    bias = _one_number(bias)
    scale = jnp.exp(bias) * jax.nn.sigmoid(widen(logsnr) - bias)
    return 0.5 * widen(neg_dlogsnr_dt) * scale * _mean_square(_error(x, x_hat))


def power_loss(
    error: Samples,
    logsnr: LogSnr,
    neg_dlogsnr_dt: PerExample,
    bias: ArrayLike,
    levels: int,
    normalisation: Normalisation | str = Normalisation.MEAN,
) -> PerExample:
    """``PL = sum_s w_s ||s||^2 / d, w_s = sigmoid(lam + b_s) (-lam'), b_s = log(2) l(s) - b``.

    SiD2 supplement B.2: s runs over the Haar sub-bands of the error and l(s) counts the low passes
    in a sub-band's name, each of which doubles the signal-to-noise ratio. The transform is
    orthonormal, so with equal weights PL is the mean squared error over the d elements of an
    example.

    The paper prints the sum, without 1 / d. The mean is the default here, as in
    :func:`weighted_mse`: its scale, and so the effect of the learning rate and of clipping by the
    gradient's norm, does not depend on the size of the images. The printed weight has neither the
    1/2 nor the e^b of :func:`sigmoid_loss`: without a split, the mean is 2 e^-b times that loss.

    Args:
        error: x_hat - x of images [b, h, w, c] or video [b, f, h, w, c], transformed per frame.
        logsnr: log-SNR of each example [b].
        neg_dlogsnr_dt: the schedule's -dlam/dt at the sampled times [b].
        bias: b, one number.
        levels: how often the low sub-band is split; height and width must divide by 2^levels.
        normalisation: ``mean`` over the elements of an example, or ``sum``, as printed.

    Returns:
        The loss of each example [b], float32.
    """
    _check_per_example(error, logsnr=logsnr, neg_dlogsnr_dt=neg_dlogsnr_dt)
    bias = _one_number(bias)
    total = jnp.zeros(error.shape[:1], jnp.float32)
    for name, band in haar.subbands(widen(error), levels).items():
        weight = jax.nn.sigmoid(widen(logsnr) + (math.log(2.0) * name.count("L") - bias))
        total = total + weight * _sum_square(band)
    match Normalisation(normalisation):
        case Normalisation.MEAN:
            return widen(neg_dlogsnr_dt) * total / math.prod(error.shape[1:])
        case Normalisation.SUM:
            return widen(neg_dlogsnr_dt) * total


class Noised(NamedTuple):
    """Examples and their noise at the sampled times: ``z = alpha x + sigma eps``."""

    x: Samples
    """Clean images [b, h, w, c] or video [b, f, h, w, c]."""
    eps: Samples
    z: Samples
    logsnr: LogSnr
    neg_dlogsnr_dt: PerExample
    """The schedule's -dlam/dt at the sampled times."""


@runtime_checkable
class TrainingLoss(Protocol):
    """What training minimises: the loss of each example, given the network's output."""

    def __call__(
        self, noised: Noised, output: Samples, prediction: Prediction, step: ArrayLike
    ) -> PerExample:
        """The loss of each example [b]; ``prediction`` says what the network's output is."""
        ...

    def weights(self, logsnr: Array, step: ArrayLike) -> dict[str, Array]:
        """``w_s`` in ``L ~ integral of sum_s w_s(lam) E ||eps_s - eps_hat_s||^2 over lam``.

        Returns:
            The weight on the eps error of each part s of the image that the loss weights
            separately, by name; the name of the whole image is empty. The part with the largest
            weight comes first.
        """
        ...


@dataclass(frozen=True)
class WeightedLoss:
    """:func:`weighted_mse`, taken in the space of the network's own output.

    The class methods make the losses of ``params.yaml`` from a kind's parameters and the shape of
    one example, [h, w, c] or [f, h, w, c].
    """

    weighting: Weighting

    @classmethod
    def sigmoid(cls, settings: Any, *, shape: tuple[int, ...]) -> "WeightedLoss":
        """The sigmoid weighting, moved by the bias."""
        return cls(weighting.SigmoidWeighting(weighting.bias_of(settings)))

    @classmethod
    def edm(cls, settings: Any, *, shape: tuple[int, ...]) -> "WeightedLoss":
        """EDM's weighting, moved to images of this height."""
        return cls(weighting.EdmWeighting(weighting.edm_resolution_shift(shape[-3])))

    @classmethod
    def edm_monotonic(cls, settings: Any, *, shape: tuple[int, ...]) -> "WeightedLoss":
        """EDM's weighting made monotone, moved to images of this height."""
        return cls(weighting.EdmMonotonicWeighting(weighting.edm_resolution_shift(shape[-3])))

    @classmethod
    def elbo(cls, settings: Any, *, shape: tuple[int, ...]) -> "WeightedLoss":
        """The bound on the likelihood: every log-SNR has the same weight."""
        return cls(weighting.ElboWeighting())

    @classmethod
    def low_bit(cls, settings: Any, *, shape: tuple[int, ...]) -> "WeightedLoss":
        """The weighting of low-bit data, for images of this height."""
        return cls(weighting.LowBitWeighting(shape[-3]))

    def __call__(
        self, noised: Noised, output: Samples, prediction: Prediction, step: ArrayLike
    ) -> PerExample:
        """The loss of each example [b]."""
        return weighted_mse(
            _target(noised, prediction),
            output,
            noised.logsnr,
            noised.neg_dlogsnr_dt,
            self.weighting(noised.logsnr, step),
            prediction,
        )

    def weights(self, logsnr: Array, step: ArrayLike) -> dict[str, Array]:
        """``w(lam)`` of the whole image."""
        return {"": self.weighting(logsnr, step)}


@dataclass(frozen=True)
class PowerLoss:
    """:func:`power_loss`, the bias a number or a :class:`TimeShiftedBias`."""

    bias: float | TimeShiftedBias
    levels: int
    normalisation: Normalisation = Normalisation.MEAN

    @classmethod
    def of(cls, settings: Any, *, shape: tuple[int, ...]) -> "PowerLoss":
        """The loss of the parameters ``power`` for examples [h, w, c] or [f, h, w, c].

        Raises:
            ValueError: the sides cannot be halved ``levels`` times.
        """
        height, width = shape[-3:-1]
        sides = math.gcd(height, width)
        most = (sides & -sides).bit_length() - 1
        if settings.levels > most:
            raise ValueError(
                f"found levels {settings.levels}, which needs sides that divide by "
                f"2^{settings.levels}; images of {height} × {width} can be split {most} times: "
                f"lower it to {most}, or change the image size"
            )
        bias, normalisation = weighting.bias_of(settings), Normalisation(settings.normalisation)
        return cls(bias, settings.levels, normalisation)

    def __call__(
        self, noised: Noised, output: Samples, prediction: Prediction, step: ArrayLike
    ) -> PerExample:
        """The loss of each example [b]."""
        error = x_from(prediction, noised.z, output, noised.logsnr) - widen(noised.x)
        return power_loss(
            error,
            noised.logsnr,
            noised.neg_dlogsnr_dt,
            weighting.bias_at(self.bias, step),
            self.levels,
            self.normalisation,
        )

    def weights(self, logsnr: Array, step: ArrayLike) -> dict[str, Array]:
        """``w_s = 2^(l(s) - 2 levels) sigmoid(b - log(2) l(s) - lam)``, for each sub-band s.

        From :func:`power_loss` by ||x_s - x_hat_s||^2 = e^-lam ||eps_s - eps_hat_s||^2 and
        e^-lam sigmoid(lam + c) = e^c sigmoid(-c - lam): every sub-band has a sigmoid weighting of
        its own. PL, as a mean, is 2 e^-b 4^levels times the loss 1/2 (-lam') w_s ||eps_s -
        eps_hat_s||^2 / d; as a sum over d elements, d times as much. The weights are without that
        factor, so they do not depend on the normalisation, and that of the deepest low sub-band is
        one in pure noise, like :func:`weighting.sigmoid`.
        """
        bias = weighting.bias_at(self.bias, step)
        passes = {name: name.count("L") for name in haar.names(self.levels)}
        return {
            name: 2.0 ** (count - 2 * self.levels)
            * weighting.sigmoid(logsnr, bias - math.log(2.0) * count)
            for name, count in passes.items()
        }


def _target(noised: Noised, prediction: Prediction) -> Samples:
    """The output of a network without error."""
    match Prediction(prediction):
        case Prediction.V:
            return velocity(noised.x, noised.eps, noised.logsnr)
        case Prediction.EPS:
            return noised.eps
        case Prediction.X:
            return noised.x


def _check_per_example(examples: Samples, **values: PerExample) -> None:
    """Refuse shapes that would be broadcast to pairs of different examples."""
    for name, value in values.items():
        if jnp.shape(value) != examples.shape[:1]:
            raise ValueError(
                f"{name} has shape {jnp.shape(value)} for examples of shape {examples.shape}, "
                f"expected {examples.shape[:1]}: one value per example; broadcast a scalar with "
                "jnp.full"
            )


def _error(x: Samples, x_hat: Samples) -> Array:
    if x.shape != x_hat.shape:
        raise ValueError(
            f"x_hat has shape {x_hat.shape} and x {x.shape}, expected a prediction of each element"
        )
    return widen(x) - widen(x_hat)


def _one_number(bias: ArrayLike) -> Array:
    number = jnp.asarray(weighting.bias_at(bias), jnp.float32)
    if number.shape:
        raise ValueError(f"bias has shape {number.shape}, expected one number")
    return number


def _times_exp(weight: Array, exponent: Array) -> Array:
    """``weight e^exponent``, finite where e^exponent alone overflows, derivatives too.

    Computed by the logarithm, except for a weight of zero, where that loses the derivative
    e^exponent with respect to the weight.
    """
    positive = weight > 0.0
    logarithm = exponent + jnp.log(jnp.where(positive, weight, 1.0))
    plain = weight * jnp.exp(jnp.where(positive, 0.0, jnp.minimum(exponent, _LARGEST)))
    return jnp.where(positive, jnp.exp(jnp.where(positive, logarithm, 0.0)), plain)


def _mean_square(error: Array) -> Array:
    return jnp.mean(jnp.square(error), axis=tuple(range(1, error.ndim)))


def _sum_square(error: Array) -> Array:
    return jnp.sum(jnp.square(error), axis=tuple(range(1, error.ndim)))
