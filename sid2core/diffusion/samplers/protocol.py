"""What a sampler is: the protocol that the loop and the plan rely on."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from sid2core.typing import Array, Key, LogSnr, Samples

__all__ = ["Denoise", "Keys", "Sampler", "State", "Step"]

Denoise = Callable[[Samples, LogSnr], Samples]
"""x_hat = denoise(z [b, …], logsnr [b])."""
Keys = Key[Array, "b"]
"""Typed PRNG keys, one per image."""
State = Any
"""A pytree of arrays that keep their shapes and dtypes from step to step; ``()`` if there is
nothing to remember."""


class Step(NamedTuple):
    """One step of the grid, from time t to the earlier time s: what a sampler may use."""

    logsnr_t: LogSnr
    """Log-SNR [b] at the start of the step."""
    logsnr_s: LogSnr
    """Log-SNR [b] at its end, higher."""
    noise: Samples
    """Fresh standard normal noise [b, …]; a deterministic sampler ignores it."""
    denoise: Denoise | None = None
    """The model at ``logsnr_s``, guided and clipped, for a sampler with two evaluations per step;
    None for the others."""


@runtime_checkable
class Sampler(Protocol):
    """A rule that takes z_t and the model's prediction to z_s.

    The loop evaluates the model at the start of every step. Its result is the prediction at the
    start of the last step, so what :meth:`step` makes of that one is not used. All methods are
    traced.
    """

    @property
    def evaluations_per_step(self) -> int:
        """1, or 2 if :meth:`step` calls ``step.denoise`` once, at the end of the step.

        The plan decides about guidance on the host. It therefore has to know the noise level of
        each evaluation.
        """
        ...

    def init(self, z: Samples) -> State:
        """The state before the first step, at the initial noise z [b, …]."""
        ...

    def step(self, z: Samples, x_hat: Samples, state: State, step: Step) -> tuple[Samples, State]:
        """z_s and the new state.

        Args:
            z: z_t [b, …].
            x_hat: the prediction at z_t [b, …], guided and clipped.
            state: what :meth:`init` or the previous step returned.
            step: noise levels, noise and, for a second evaluation, the model.
        """
        ...
