import jax
import numpy as np
from flax import nnx

from sid2core.models.rngs import Rngs


def test_draws_the_keys_of_flax():
    expected, ours = nnx.Rngs(jax.random.key(3)), Rngs(jax.random.key(3))
    for _ in range(5):
        for one in ("params", "dropout", "default"):
            draws = [jax.random.key_data(each[one]()) for each in (expected, ours)]
            np.testing.assert_array_equal(*draws)


def test_a_traced_draw_counts_outside_the_trace():
    """The trace holds one operation a draw, so that its length is linear in the draws."""

    def operations(draws):
        def draw(key):
            stream = Rngs(key)
            return [stream.params() for _ in range(draws)]

        names = [one.primitive.name for one in jax.make_jaxpr(draw)(jax.random.key(0)).eqns]
        return names.count("random_fold_in"), len(names)

    ten, twenty = operations(10), operations(20)
    assert (ten[0], twenty[0]) == (10, 20)
    assert twenty[1] <= 2 * ten[1]
