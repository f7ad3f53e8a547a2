"""What an update must not do: wrappers that leave its numbers as they are where all is well."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from sid2core.typing import Array

State = dict[str, Any]
Update = Callable[..., tuple[State, dict[str, Array]]]
"""(state, …) → (state, scalars): the state has a ``step``, the scalars a loss and norms."""

SKIPPED = "skipped"
"""In the state and among the scalars: how many updates in a row were skipped, this one included."""


def guarded(update: Update) -> Update:
    """The same update; if a scalar is not finite, everything but the step stays as it was.

    The step moves on, so what comes next sees another batch and other noise. A gradient that is not
    finite has no finite norm, so the scalars show it, too. ``jnp.where`` joins the fused loops
    that write the state anyway; ``lax.cond`` would copy it.
    """

    def careful(state: State, *args: Any, **kwargs: Any) -> tuple[State, dict[str, Array]]:
        before = {name: value for name, value in state.items() if name != SKIPPED}
        new, scalars = update(before, *args, **kwargs)
        finite = jnp.isfinite(jnp.stack(list(scalars.values()))).all()
        kept = jax.tree.map(partial(jnp.where, finite), new, before)
        skipped = jnp.where(finite, 0, state[SKIPPED] + 1)
        return kept | {"step": new["step"], SKIPPED: skipped}, scalars | {SKIPPED: skipped}

    return careful


def watched(state: State) -> State:
    """The first state of a guarded update: nothing skipped yet."""
    return state | {SKIPPED: jnp.zeros((), jnp.int32)}


def frozen(update: Update, names: Collection[str]) -> Update:
    """The same update, but whatever belongs to a parameter in ``names`` stays as it was.

    That is every leaf of the state at such a name: the parameter, its averages, its moments.
    """
    if not names:
        return update

    def most_of_it(state: State, *args: Any, **kwargs: Any) -> tuple[State, dict[str, Array]]:
        new, scalars = update(state, *args, **kwargs)

        def kept(path: tuple[Any, ...], before: Array, after: Array) -> Array:
            return before if getattr(path[-1], "key", None) in names else after

        return jax.tree_util.tree_map_with_path(kept, state, new), scalars

    return most_of_it
