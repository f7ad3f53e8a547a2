import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core.data.load import shuffle
from sid2core.data.load.shuffle import LANES, SPREAD, Order

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=90)
SEEDS = st.integers(0, 2**31)


def of(sizes, seed=0):
    return Order(np.array(sizes, np.int64), seed)


def group_of(sizes):
    """The row group of each record."""
    return np.repeat(np.arange(len(sizes)), sizes)


@given(SIZES, SEEDS, st.integers(0, 10**9))
def test_an_epoch_is_a_permutation(sizes, seed, number):
    rows, lanes = of(sizes, seed).epoch(number)
    assert sorted(rows) == list(range(sum(sizes)))
    assert set(lanes) == set(range(min(LANES, len(sizes))))
    # A row group lies in one lane, and lanes have row groups as equal in number as may be.
    pairs = set(zip(group_of(sizes)[rows].tolist(), lanes.tolist(), strict=True))
    assert len(pairs) == len(sizes)
    counts = np.bincount([lane for _, lane in pairs])
    assert counts.max() - counts.min() <= 1


@settings(max_examples=50, deadline=None)
@given(SIZES, SEEDS, st.integers(1, 50), st.integers(1, 3))
def test_epochs_follow_one_another_in_batches_without_a_gap(sizes, seed, batch_size, epochs):
    shuffled, size = of(sizes, seed), sum(sizes)
    steps = -(-epochs * size // batch_size)
    stream = [shuffled.batch(step, batch_size) for step in range(steps)]
    assert {len(batch) for batch in stream} == {batch_size}
    expected = np.concatenate([shuffled.epoch(epoch).rows for epoch in range(epochs + batch_size)])
    for step, batch in enumerate(stream):
        own = expected[step * batch_size : (step + 1) * batch_size]
        assert sorted(batch) == sorted(own)


@settings(max_examples=30, deadline=None)
@given(SIZES, SEEDS, st.integers(1, 40), st.integers(0, 11))
def test_any_batch_can_be_asked_for_at_once(sizes, seed, batch_size, start):
    undisturbed, resumed = of(sizes, seed), of(sizes, seed)
    batches = [undisturbed.batch(step, batch_size).tolist() for step in range(12)]
    assert [resumed.batch(step, batch_size).tolist() for step in range(start, 12)] == batches[
        start:
    ]
    assert of(sizes, seed).batch(start, batch_size).tolist() == batches[start]
    assert len(resumed.batch(10**12, batch_size)) == batch_size


@given(st.integers(0, 500), st.integers(1, 70))
def test_shares_make_the_whole_and_are_as_equal_as_may_be(size, count):
    shares = [shuffle.part(size, index, count) for index in range(count)]
    assert [row for one in shares for row in range(one.start, one.stop)] == list(range(size))
    lengths = [one.stop - one.start for one in shares]
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 16])
@pytest.mark.parametrize("batch_size", [64, 250])
def test_a_process_reads_about_its_share_of_the_row_groups(count, batch_size):
    """At most two lanes more than its own: those that it shares with its neighbours."""
    sizes = [100] * 639 + [37]
    shuffled, group = of(sizes), group_of(sizes)
    read = [set() for _ in range(count)]
    for step in range(sum(sizes) // batch_size):
        rows = shuffled.batch(step, batch_size)
        for index, mine in enumerate(read):
            mine.update(group[rows[shuffle.part(batch_size, index, count)]].tolist())
    assert max(len(one) / len(sizes) for one in read) <= 1 / count + 2 / LANES


def test_few_row_groups_are_open_at_a_time_and_they_open_one_after_another():
    sizes, batch_size = [128] * 640, 256
    shuffled, group = of(sizes), group_of(sizes)
    batches = [set(group[shuffled.batch(step, batch_size)]) for step in range(320)]
    assert max(map(len, batches)) <= (SPREAD + 1) * LANES
    assert np.mean([len(one) for one in batches]) < (SPREAD + 0.2) * LANES
    opened = [len(new - old) for old, new in zip(batches, batches[1:], strict=False)]
    # 640 row groups in 320 batches, and what leaves for one batch and comes again.
    assert np.mean(opened) < 10
    assert max(opened) < LANES


def test_most_row_groups_are_opened_once_an_epoch():
    """Those over which a ring closes come again at its end."""
    sizes = [64] * 1600
    group = group_of(sizes)[of(sizes).epoch(0).rows]
    places = np.arange(len(group)) / len(group)
    first, last = np.full(len(sizes), np.inf), np.zeros(len(sizes))
    np.minimum.at(first, group, places)
    np.maximum.at(last, group, places)
    # A lane has 50 row groups, and each lies within the room of two, a little before or after.
    once = last - first < (SPREAD + 1) / 50
    assert (~once).sum() <= (SPREAD + 1) * LANES


@pytest.mark.parametrize("groups", [1, 2, 7, 32, 40])
def test_in_a_small_set_every_record_may_come_anywhere(groups):
    """Where each of the first row group's records comes, over many epochs: uniform everywhere."""
    sizes, epochs, bins = [4] * groups, 600, 4
    shuffled, places = of(sizes), np.zeros((4, bins))
    for epoch in range(epochs):
        rows = shuffled._epoch(epoch).rows
        for record in range(4):
            at = int(np.flatnonzero(rows == record)[0])
            places[record, at * bins // len(rows)] += 1
    expected = epochs / bins
    chi_square = ((places - expected) ** 2 / expected).sum(axis=1)
    assert chi_square.max() < 21  # 3 degrees of freedom: one in ten thousand is beyond


def test_a_single_row_group_is_shuffled_as_well_as_any():
    """All 24 orders of four records, equally often."""
    shuffled = of([4])
    found = [tuple(shuffled._epoch(epoch).rows.tolist()) for epoch in range(4800)]
    _, counts = np.unique(found, axis=0, return_counts=True)
    assert len(counts) == 24
    assert ((counts - 200) ** 2 / 200).sum() < 59  # 23 degrees of freedom: one in ten thousand


def test_epochs_and_seeds_have_orders_of_their_own():
    sizes = [50] * 200
    orders = [np.argsort(of(sizes, seed).epoch(epoch).rows) for seed in (0, 1) for epoch in (0, 1)]
    orders.append(np.arange(len(orders[0])))
    correlation = np.corrcoef(orders)[np.triu_indices(5, 1)]
    # Records of a row group move together, so it is 200 row groups that are independent.
    assert np.abs(correlation).max() < 4 / np.sqrt(200)


def test_records_of_a_row_group_meet_no_more_often_than_its_room_makes_them():
    """Two of them share a batch as if each lay anywhere in the room of two in every lane."""
    sizes, batch_size = [64] * 960, 128
    shuffled, group = of(sizes), group_of(sizes)
    met = pairs = 0
    for step in range(sum(sizes) // batch_size):
        _, counts = np.unique(group[shuffled.batch(step, batch_size)], return_counts=True)
        met += int((counts * (counts - 1)).sum())
        pairs += batch_size * (batch_size - 1)
    expected = sum(sizes) / (SPREAD * 64 * LANES)
    uniform = (64 - 1) / (sum(sizes) - 1)
    assert met / pairs < 1.2 * expected * uniform


def test_known_order_never_changes():
    # Another order would change every result, and break off every unfinished run.
    assert of([3, 3, 2]).epoch(0).rows.tolist() == [1, 3, 0, 6, 5, 2, 4, 7]
    assert of([3, 3, 2]).batch(0, 4).tolist() == [0, 1, 3, 6]
