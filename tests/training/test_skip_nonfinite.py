import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core.training import skip_nonfinite

BAD = (math.nan, math.inf, -math.inf)


def update(state, pull):
    """A step towards 0, with a moment; ``pull`` is reported as it is."""
    moment = 0.5 * state["moments"]["w"] + pull * state["params"]["w"]
    params = {"w": state["params"]["w"] - 0.1 * moment, "b": state["params"]["b"] + pull}
    new = {"step": state["step"] + 1, "params": params, "moments": {"w": moment, "b": pull}}
    return new, {"loss": pull, "grad_norm": jnp.linalg.norm(moment)}


PLAIN, CAREFUL = jax.jit(update), jax.jit(skip_nonfinite.guarded(update))


def first():
    return {
        "step": jnp.zeros((), jnp.int32),
        "params": {"w": jnp.linspace(1, 2, 7), "b": jnp.float32(3)},
        "moments": {"w": jnp.zeros(7), "b": jnp.float32(0)},
    }


def same(one, other):
    # NumPy's comparison: JAX's would be compiled for every shape, and most of the time here.
    return jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), one, other))


def test_finite_updates_are_what_they_are_without_guard():
    state, watched = first(), skip_nonfinite.watched(first())
    for index in range(20):
        pull = jnp.float32(0.3 + 0.1 * index)
        state, scalars = PLAIN(state, pull)
        watched, scalars_out = CAREFUL(watched, pull)
        assert same(watched, state | {"skipped": jnp.int32(0)})
        assert same(scalars_out, scalars | {"skipped": jnp.int32(0)})


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0.1, 0.7, *BAD]), min_size=1, max_size=12))
def test_bad_updates_count_and_change_nothing_but_the_step(pulls):
    state, expected, in_row = skip_nonfinite.watched(first()), first(), 0
    for index, pull in enumerate(pulls):
        state, scalars = CAREFUL(state, jnp.float32(pull))
        in_row = 0 if math.isfinite(pull) else in_row + 1
        if not in_row:
            expected, _ = PLAIN(expected, jnp.float32(pull))
        assert int(scalars["skipped"]) == int(state["skipped"]) == in_row
        assert int(state["step"]) == index + 1
        for part in ("params", "moments"):
            assert same(state[part], expected[part])


@pytest.mark.parametrize("bad", BAD)
def test_a_gradient_that_is_not_finite_shows_in_its_norm(bad):
    """The loss may be finite where its gradient is not."""

    def steep(state, pull):
        new, scalars = update(state, jnp.float32(0.1))
        return new, scalars | {"grad_norm": jnp.linalg.norm(jnp.array([1.0, pull]))}

    state, scalars = skip_nonfinite.guarded(steep)(skip_nonfinite.watched(first()), bad)
    assert int(scalars["skipped"]) == 1
    assert same(state["params"], first()["params"])


def test_what_is_given_away_may_be_guarded():
    """Training donates its state: the old values must still be there to stay."""
    careful = jax.jit(skip_nonfinite.guarded(update), donate_argnums=0)
    state = skip_nonfinite.watched(first())
    for pull in (0.1, math.nan, 0.1):
        state, _ = careful(state, jnp.float32(pull))
    expected = first()
    for _ in range(2):
        expected, _ = PLAIN(expected, jnp.float32(0.1))
    assert same(state["params"], expected["params"])


def test_what_is_frozen_keeps_its_value_and_its_moments():
    state, _ = skip_nonfinite.frozen(update, {"b"})(first(), jnp.float32(0.5))
    moved, _ = update(first(), jnp.float32(0.5))
    assert same(state["params"], {"w": moved["params"]["w"], "b": jnp.float32(3)})
    assert same(state["moments"], {"w": moved["moments"]["w"], "b": jnp.float32(0)})
    assert int(state["step"]) == 1


def test_nothing_frozen_is_the_update_itself():
    assert skip_nonfinite.frozen(update, frozenset()) is update


@pytest.mark.parametrize("pull", [0.5, math.nan])
def test_guard_and_freeze_go_together(pull):
    both = jax.jit(skip_nonfinite.guarded(skip_nonfinite.frozen(partial(update), {"w"})))
    state, _ = both(skip_nonfinite.watched(first()), jnp.float32(pull))
    np.testing.assert_array_equal(state["params"]["w"], first()["params"]["w"])
    expected = 3.5 if math.isfinite(pull) else 3.0
    assert float(state["params"]["b"]) == expected
