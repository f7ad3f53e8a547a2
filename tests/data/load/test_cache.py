import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sid2core.data.load.cache import Cache


def of(sizes, limit, asked=None):
    """Item n is ``sizes[n]`` bytes of n."""
    asked = [] if asked is None else asked

    def read(number):
        asked.append(number)
        return np.full(sizes[number], number, np.uint8)

    return Cache(read, np.array(sizes, np.int64), limit)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
    st.integers(0, 30),
    st.lists(st.integers(0, 7), max_size=40),
)
def test_it_answers_rightly_and_never_holds_more_than_it_may(sizes, limit, numbers):
    cache = of(sizes, limit)
    for number in numbers:
        number %= len(sizes)
        item = cache[number]
        assert item.tolist() == [number] * sizes[number]
        assert cache.held == sum(map(len, cache._items.values())) <= max(limit, max(sizes))


def test_what_fits_is_read_once():
    asked = []
    cache = of([4] * 5, 20, asked)
    for number in (0, 3, 1, 0, 4, 2, 3, 3, 0):
        cache[number]
    assert asked == [0, 3, 1, 4, 2]
    assert cache.reads == 5


def test_the_least_recently_used_goes_first():
    asked = []
    cache = of([4] * 5, 12, asked)
    for number in (0, 1, 2, 0, 3, 0, 2, 1):
        cache[number]
    assert asked == [0, 1, 2, 3, 1]  # 3 took the place of 1, which then took that of 3


def test_room_is_made_before_an_item_is_read():
    cache = of([4] * 5, 8)
    seen, read = [], cache._read
    cache._read = lambda number: (seen.append(cache.held), read(number))[1]
    for number in range(5):
        cache[number]
    assert seen == [0, 4, 4, 4, 4]


def test_an_item_larger_than_the_limit_is_held_alone():
    cache = of([4, 50, 4], 10)
    for number in range(3):
        cache[number]
        assert cache.held == (4, 50, 4)[number]


def test_what_is_used_together_is_held_together():
    asked = []
    cache = of([4] * 6, 8, asked)
    for _ in range(3):
        cache.reserve(np.array([0, 1, 2, 3]))
        for number in range(4):
            cache[number]
    cache.reserve(np.arange(6))
    assert asked == [0, 1, 2, 3]
    assert cache.limit == 24


def test_a_failed_read_leaves_it_as_it_was():
    def read(number):
        if number == 1:
            raise OSError("gone")
        return np.zeros(4, np.uint8)

    cache = Cache(read, np.array([4, 4]), 100)
    cache[0]
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            cache[1]
    assert (cache.held, cache.reads) == (4, 1)


def test_threads_may_share_it():
    cache, wrong = of([7] * 9, 21), []

    def work(seed):
        for number in np.random.default_rng(seed).integers(0, 9, 300):
            if (cache[int(number)] != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=[seed]) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cache.held == sum(map(len, cache._items.values())) == 21
