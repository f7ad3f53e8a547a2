"""Stratified times: uniform each, evenly spread together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sid2core.diffusion.times import antithetic_times


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), batch=st.sampled_from([1, 7, 64]))
def test_neighbours_are_equally_spaced_on_the_circle(seed, batch):
    t = np.sort(np.asarray(antithetic_times(jax.random.key(seed), batch), np.float64))
    assert t.shape == (batch,)
    assert np.all((t >= 0) & (t < 1))
    gaps = np.diff(np.append(t, t[0] + 1))
    np.testing.assert_allclose(gaps, 1 / batch, atol=1e-6)


def test_each_time_is_uniform():
    keys = jax.random.split(jax.random.key(0), 4000)
    t = jax.vmap(lambda key: antithetic_times(key, 4))(keys)
    for i in range(4):
        assert stats.kstest(np.asarray(t[:, i]), "uniform").pvalue > 1e-3


def test_a_mean_over_the_batch_varies_less_than_with_independent_times():
    keys = jax.random.split(jax.random.key(1), 500)
    stratified = jax.vmap(lambda key: antithetic_times(key, 32))(keys)
    independent = jax.vmap(lambda key: jax.random.uniform(key, (32,)))(keys)
    spread = [float(jnp.std(jnp.mean(jnp.exp(t), axis=1))) for t in (stratified, independent)]
    assert spread[0] < spread[1] / 5


def test_refuses_an_empty_batch():
    with pytest.raises(ValueError, match="batch is 0"):
        antithetic_times(jax.random.key(0), 0)
