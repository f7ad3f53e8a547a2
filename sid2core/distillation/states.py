"""The states that moment matching is evaluated on: times s < t, z_t, x~ = g_eta(z_t) and z_s.

    z_t from data, noised, or from the student's own steps from noise
    z_s ~ q(z_s | z_t, stopgrad x~), by the student's step (arXiv 2406.04103)

What helped in later work on SiD2 teachers: states of the student's own roll-out, times t on the
grid of its k steps, times uniform in log-SNR, a student's step with less noise than the posterior
has (eta below 1), dropout in the student.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from sid2core import config, rng
from sid2core.conditioning import Condition
from sid2core.diffusion import parametrisation, samplers
from sid2core.diffusion.noise import standard_normal
from sid2core.diffusion.schedule import Schedule
from sid2core.diffusion.times import antithetic_times
from sid2core.inference.denoiser import Denoiser
from sid2core.models.dropout import DropoutKey
from sid2core.models.network import Parameters
from sid2core.typing import Array, LogSnr, Samples, Time

Source = Literal["data", "rollout"]
Times = Literal["continuous", "grid"]
Density = Literal["t", "logsnr"]


class Step(NamedTuple):
    """One step of the student: its estimate of x, and the noisy sample that follows from it."""

    x_tilde: Samples
    z_s: Samples
    logsnr_s: LogSnr
    condition: Condition


class Draws(NamedTuple):
    """The random choices of a batch."""

    t: Time
    s: Time
    eps: Samples
    """What data are noised with; where a roll-out starts."""
    noise: Samples
    """Of the step to s."""
    rollout: samplers.Keys | None = None
    """One key per example, of the noise of its roll-out's steps."""


@dataclass(frozen=True)
class States:
    """How the states of a batch are drawn, and the student's step from t to s.

    Attributes:
        denoiser: architecture and prediction of the student.
        schedule: the teacher's noise schedule.
        steps: k, the number of steps that the student takes.
        source: z_t from ``data``, or from the student's ``rollout``, which needs no images.
        times: t anywhere (``continuous``), or on the ``grid`` of the student's steps.
        density: of random times, uniform in ``t`` or in ``logsnr``.
        eta: of the student's step (:class:`~sid2core.diffusion.samplers.Posterior`).
        dropout: rate in the student while it is trained; None is a student without dropout.
    """

    denoiser: Denoiser
    schedule: Schedule
    steps: int
    source: Source = "data"
    times: Times = "continuous"
    density: Density = "t"
    eta: float = 1.0
    dropout: float | None = None

    @classmethod
    def of(
        cls, settings: config.Distill, denoiser: Denoiser, schedule: Schedule, steps: int
    ) -> States:
        """The states of the section ``distill`` for a student of ``steps`` steps."""
        names = ("times", "density", "eta", "dropout")
        options = {name: getattr(settings, name) for name in names}
        return cls(denoiser, schedule, steps, settings.states, **options)

    def drawn(self, shape: tuple[int, ...], key: Array) -> Draws:
        """The random choices of a batch of ``shape``."""
        key_t, key_gap, key_eps, key_noise = jax.random.split(key, 4)
        t = self._t(antithetic_times(key_t, shape[0]))
        s = self._s(t, jax.random.uniform(key_gap, t.shape))
        eps, noise = standard_normal(key_eps, shape), standard_normal(key_noise, shape)
        own = self.source == "rollout"
        keys = rng.keys(jax.random.fold_in(key, 4), jnp.arange(shape[0])) if own else None
        return Draws(t, s, eps, noise, keys)

    def stepped(
        self,
        student: Parameters,
        x: Samples,
        condition: Condition,
        draws: Draws,
        dropout_key: DropoutKey | None = None,
    ) -> Step:
        """x~ and z_s, differentiable in x~ only.

        Args:
            student: its weights.
            x: clean examples; a roll-out does not use them.
            condition: of the examples.
            draws: the random choices.
            dropout_key: of the student's dropout, where it has some.
        """
        logsnr_t, logsnr_s = self.schedule.logsnr(draws.t), self.schedule.logsnr(draws.s)
        if self.source == "rollout":
            z_t = self.rolled_out(student, condition, draws)
        else:
            z_t = parametrisation.diffuse(x, draws.eps, logsnr_t)
        if self.dropout is None:
            x_tilde = self.denoiser(student, z_t, logsnr_t, condition)
        else:
            dropping = with_dropout(self.denoiser, self.dropout)
            x_tilde = dropping(student, z_t, logsnr_t, condition, dropout_key)
        fixed = jax.lax.stop_gradient(x_tilde)
        z_s = self._step(z_t, fixed, logsnr_t, logsnr_s, draws.noise)
        return Step(x_tilde, z_s, logsnr_s, condition)

    def rolled_out(self, student: Parameters, condition: Condition, draws: Draws) -> Samples:
        """z_t of the student's own steps from noise: 1, 1 − 1/k, … down to t, without dropout.

        The last step is shorter where t is not on the grid. No gradient flows through it. It costs
        k − 1 forward passes with t on the grid, k without.
        """
        assert draws.rollout is not None, "drawn for states of a roll-out"
        fixed, keys, shape = jax.lax.stop_gradient(student), draws.rollout, draws.eps.shape[1:]

        def step(z: Samples, index: Array) -> tuple[Samples, None]:
            start, end = (
                jnp.maximum(1.0 - done.astype(jnp.float32) / self.steps, draws.t)
                for done in (index, index + 1)
            )
            logsnr_t, logsnr_s = self.schedule.logsnr(start), self.schedule.logsnr(end)
            noise = jax.vmap(lambda key: standard_normal(jax.random.fold_in(key, index), shape))
            x_hat = self.denoiser(fixed, z, logsnr_t, condition)
            moved = self._step(z, x_hat, logsnr_t, logsnr_s, noise(keys))
            return jnp.where(parametrisation.per_example(end < start, z), moved, z), None

        count = self.steps - 1 if self.times == "grid" else self.steps
        return jax.lax.scan(step, draws.eps, jnp.arange(count))[0]

    def _step(
        self, z: Samples, x_hat: Samples, logsnr_t: LogSnr, logsnr_s: LogSnr, noise: Samples
    ) -> Samples:
        """The student's step from t to s."""
        step = samplers.Step(logsnr_t, logsnr_s, noise)
        return samplers.Posterior(self.eta).step(z, x_hat, (), step)[0]

    def _t(self, u: Time) -> Time:
        """Times t from u ~ U(0, 1): on the grid each of 1/k, 2/k, … 1 as often as the others."""
        if self.times == "grid":
            return (jnp.floor(u * self.steps) + 1.0) / self.steps
        return u if self.density == "t" else self._between(jnp.ones_like(u), jnp.zeros_like(u), u)

    def _s(self, t: Time, u: Time) -> Time:
        """``s = max(t − u / k, 0)``; or, uniform in log-SNR, between t and max(t − 1/k, 0)."""
        if self.density == "t":
            return jnp.maximum(t - u / self.steps, 0)
        return self._between(t, jnp.maximum(t - 1.0 / self.steps, 0), u)

    def _between(self, late: Time, early: Time, u: Time) -> Time:
        """The time at which log-SNR has gone the share u of its way from ``late`` to ``early``."""
        low, high = self.schedule.logsnr(late), self.schedule.logsnr(early)
        return self.schedule.t_of(low + u * (high - low))


def with_dropout(denoiser: Denoiser, rate: float) -> Denoiser:
    """The same network with dropout of ``rate`` in the levels that have some; without any, in all.

    ``model.dropout`` says which levels these are.
    """
    network = denoiser.network
    levels = network.config.dropout
    rates = tuple(rate if one or not any(levels) else 0.0 for one in levels)
    dropping = replace(network, config=replace(network.config, dropout=rates))
    return replace(denoiser, network=dropping)
