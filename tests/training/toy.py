"""A run small enough to be stopped at every step, and what tests of the loop share."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest

from sid2core import config
from sid2core.training import loop, skip_nonfinite
from sid2core.training.loop import Run

SIZE = 50_000
RUNTIME = config.Runtime(
    launcher="",
    mesh=config.Mesh(data=1, fsdp=1),
    log_every=2,
    checkpoint_every=4,
    checkpoint_minutes=None,
    keep_checkpoints=2,
    keep_hours=None,
    max_skipped=3,
    sample_every=0,
    sample_prompts=None,
    profile=None,
    remat="none",
    scan_blocks=8,
    attention="auto",
    prefetch=0,
    cache_mib=1,
    drawn_gib=1.0,
    workers=None,
    dask_address=None,
)


class Killed(BaseException):
    """What no handler in the loop may catch."""


def _plain(state, index, bad):
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), index), (SIZE,))
    loss = jnp.mean(jnp.square(state["x"])) / 2
    new = {"step": state["step"] + 1, "x": 0.9 * state["x"] + 0.1 * noise}
    return new, {"loss": jnp.where(bad, jnp.nan, loss), "grad_norm": jnp.sqrt(2 * loss)}


_update = jax.jit(skip_nonfinite.guarded(_plain), donate_argnums=0)


def quadratic(steps=15, *, fails_at=None, broken=(), seen=None, batches=None):
    """Noisy gradient descent on |x|² / 2: its state says everything that came before.

    The batch of a step is its number; the loss of those in ``broken`` is no number. The state's
    buffers are given away at each step, as in training: a checkpoint must not share them.
    """
    seen = [] if seen is None else seen

    def counted(index):
        yield from range(index, steps)

    def step(state, batch, index):
        assert batch == index
        if index == fails_at:
            raise Killed
        seen.append(index)
        return _update(state, index, index in broken)

    def init():
        return skip_nonfinite.watched({"step": jnp.zeros((), jnp.int32), "x": jnp.ones(SIZE)})

    return Run(
        "toy", steps, init, batches or counted, step, images_per_step=7, cure="lower the rate"
    )


def stopped(folder, at, **kwargs):
    with pytest.raises(Killed):
        loop.fit(quadratic(fails_at=at, **kwargs), folder, RUNTIME)


def same(state, other):
    return jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), state, other))


@dataclass
class Clock:
    """Seconds that pass when tests say so."""

    now: float = 0.0

    def perf_counter(self):
        return self.now

    def batches(self, steps, seconds, closed=None):
        """Numbers from ``index`` on, each of which takes ``seconds`` to come."""

        def counted(index):
            try:
                for number in range(index, steps):
                    self.now += seconds
                    yield number
            finally:
                if closed is not None:
                    closed.append(True)

        return counted


def saved(folder):
    """The steps of checkpoints that are whole."""
    names = [path.name for path in (folder / "checkpoints").iterdir()]
    return sorted(int(name) for name in names if name.isdigit())
