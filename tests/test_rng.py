import jax
import jax.numpy as jnp
import numpy as np

from sid2core import rng


def data(key):
    return np.asarray(jax.random.key_data(key)).tolist()


def test_streams_never_change():
    """Samples and weights of a seed depend on these values."""
    assert data(rng.key(0, "train")) == [3768196570, 2269564879]
    assert data(rng.key(7, "evaluate")) == [341939251, 4185836108]


def test_a_stream_depends_on_seed_and_name():
    names = ["train", "init", "evaluate", "evaluate/grid", ""]
    found = {tuple(data(rng.key(seed, name))) for seed in (0, 1, 2**32 - 1) for name in names}
    assert len(found) == 3 * len(names)


def test_streams_are_independent():
    draws = jnp.stack(
        [jax.random.normal(rng.key(seed, name), (20_000,)) for seed in (0, 1) for name in "ab"]
    )
    correlation = np.corrcoef(draws)
    # 1 / sqrt(n) = 0.007 is the deviation of the correlation of independent draws.
    assert np.abs(correlation - np.eye(4)).max() < 0.03


def test_a_key_of_an_index_depends_on_nothing_else():
    base = rng.key(0, "images")
    together = data(rng.keys(base, np.array([5, 0, 900_000])))
    assert together == [data(rng.keys(base, np.array([index]))[0]) for index in (5, 0, 900_000)]
    assert together == [data(jax.random.fold_in(base, index)) for index in (5, 0, 900_000)]


def test_keys_of_many_indices_differ():
    found = data(rng.keys(rng.key(0, "images"), np.arange(5000)))
    assert len({tuple(one) for one in found}) == 5000


def test_a_permutation_holds_every_index_once():
    first, again = (np.asarray(rng.permutation(0, "order", 100)) for _ in range(2))
    other = np.asarray(rng.permutation(0, "another", 100))
    assert sorted(first) == list(range(100))
    assert (first == again).all()
    assert (first != other).any()
    assert (first != np.arange(100)).any()
