import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core.models import dropout
from sid2core.models.dropout import PartKey, dropped

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(key, places):
    """Threefry-2x32 of 20 rounds (Salmon et al., 2011) at 64-bit places, in NumPy."""
    k = [np.uint32(word) for word in np.asarray(jax.random.key_data(key))]
    k.append(k[0] ^ k[1] ^ np.uint32(0x1BD11BDA))
    places = np.asarray(places, np.uint64)
    x = [(places >> np.uint64(32)).astype(np.uint32), places.astype(np.uint32)]
    with np.errstate(over="ignore"):
        x = [x[0] + k[0], x[1] + k[1]]
        for group in range(5):
            for turn in ROTATIONS[group % 2]:
                x[0] = x[0] + x[1]
                x[1] = (x[1] << np.uint32(turn)) | (x[1] >> np.uint32(32 - turn))
                x[1] = x[1] ^ x[0]
            x[0] = x[0] + k[(group + 1) % 3]
            x[1] = x[1] + k[(group + 2) % 3] + np.uint32(group + 1)
    return (x[0] ^ x[1]).astype(np.uint16)


def part_of(key, index, parts):
    return PartKey(key, jnp.int32(index), parts)


@pytest.mark.slow
@given(
    st.integers(1, 4), st.integers(1, 5), st.lists(st.integers(1, 3), max_size=3), st.integers(0)
)
@settings(max_examples=4, deadline=None)
def test_parts_are_dropped_as_in_the_whole(rows, parts, inner, seed):
    """However they are computed, and at the end of any chain of folds and splits."""
    key = jax.random.key(seed % 2**32)
    h = jnp.ones((rows * parts, *inner, 8))

    def below(key):
        return dropout.fold(dropout.split(key, 3)[1], 7)

    whole = dropped(h, 0.4, below(key))
    for index in range(parts):
        part = dropped(h[index::parts], 0.4, below(part_of(key, index, parts)))
        assert (part == whole[index::parts]).all()


@pytest.mark.parametrize("index", [0, 1, 4095])
def test_places_beyond_32_bits_are_their_own(index):
    """Of a batch of 8,192 rows of 2²⁰: more than any test could draw whole."""
    size, parts, key = 2**20, 4096, jax.random.key(3)
    found = dropout._bits_of_part(part_of(key, index, parts), (2, size))
    ends = np.array([0, 1, size - 1])
    for row, place in enumerate((index, index + parts)):
        expected = threefry(key, place * size + ends)
        assert (np.asarray(found[row])[ends] == expected).all()


def test_the_whole_is_drawn_by_the_same_rule():
    key = jax.random.key(5)
    assert (jax.random.bits(key, (100,), jnp.uint16) == threefry(key, np.arange(100))).all()


def test_without_a_key_nothing_is_dropped():
    h = jnp.ones((4, 4))
    assert dropped(h, 0.5, dropout.fold(None, 3)) is h
    assert dropout.split(None, 2) == [None, None]
