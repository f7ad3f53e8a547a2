import math
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sid2core.data.errors import DataError
from sid2core.data.prepare import splits
from sid2core.data.sources.protocol import Entry


def entries_of(labels):
    return [Entry(f"r/{index}", label) for index, label in enumerate(labels)]


def keys(part):
    return [entry.key for entry in part]


def divided(entries, names, fraction, seed, fixed):
    parts = splits.split(entries, names, fraction, seed, fixed=fixed)
    return {name: set(keys(part)) for name, part in parts.items()}


@given(
    counts=st.lists(st.integers(2, 40), min_size=1, max_size=5),
    fraction=st.floats(0.1, 0.9),
    seed=st.integers(0, 2**32),
    order=st.randoms(use_true_random=False),
    fixed=st.booleans(),
)
def test_split_is_whole_and_blind_to_order(counts, fraction, seed, order, fixed):
    borders = [math.floor(fraction * count + 0.5) for count in counts]
    assume(all(0 < border < count for border, count in zip(borders, counts, strict=True)))
    names = [f"c{label}" for label in range(len(counts))]
    entries = entries_of([label for label, count in enumerate(counts) for _ in range(count)])
    parts = splits.split(entries, names, fraction, seed, fixed=fixed)
    assert sorted(keys(parts["train"]) + keys(parts["eval"])) == sorted(keys(entries))
    found = Counter(entry.label for entry in parts["train"])
    assert min(found[label] for label in range(len(counts))) >= 1
    if fixed:
        assert [found[label] for label in range(len(counts))] == borders

    order.shuffle(entries)
    again = divided(entries, names, fraction, seed, fixed)
    assert again == {name: set(keys(part)) for name, part in parts.items()}


@pytest.mark.parametrize("fixed", [True, False])
def test_entries_that_name_their_split_are_in_it_and_move_no_other(fixed):
    free = entries_of([0, 1] * 20)
    bound = [Entry(f"bound/{row}", row % 2, split=splits.SPLITS[row % 3 > 0]) for row in range(30)]
    alone = divided(free, ["a", "b"], 0.5, 1, fixed)
    both = divided(bound + free, ["a", "b"], 0.5, 1, fixed)
    for split, expected in alone.items():
        own = {entry.key for entry in bound if entry.split == split}
        assert both[split] == expected | own


@given(st.integers(2, 60), st.integers(0, 40), st.floats(0.2, 0.9), st.integers(0, 99))
def test_entries_that_are_added_move_none(count, more, fraction, seed):
    before = divided(entries_of([0] * count), ["a"], fraction, seed, fixed=False)
    after = divided(entries_of([0] * (count + more)), ["a"], fraction, seed, fixed=False)
    assume(len(before["train"]) > 1)  # the least of a class trains whatever its hash says
    assert before["train"] <= after["train"]
    assert before["eval"] <= after["eval"]


def test_the_share_that_trains_is_the_fraction():
    parts = divided(entries_of([0] * 10_000), ["a"], 0.85, 0, fixed=False)
    assert abs(len(parts["train"]) - 8500) < 4 * math.sqrt(10_000 * 0.85 * 0.15)


def test_a_class_of_one_trains():
    for seed in range(50):
        parts = divided(entries_of([0]), ["a"], 0.1, seed, fixed=False)
        assert parts == {"train": {"r/0"}, "eval": set()}


def test_seeds_differ_and_the_order_is_mixed():
    entries = entries_of([index % 2 for index in range(200)])
    one, other = (divided(entries, "ab", 0.5, seed, fixed=True) for seed in (0, 1))
    assert one["train"] != other["train"]
    head = [entry.label for entry in splits.mixed(entries, 0, grouped=False)[:50]]
    assert 10 < sum(head) < 40
    orders = [keys(splits.mixed(entries, seed, grouped=False)) for seed in (0, 1)]
    assert orders[0] != orders[1]


def test_known_order_never_changes():
    # By `printf 0/order/r/3 | sha256sum` and so on: another order would change every result.
    expected = ["r/3", "r/1", "r/0", "r/5", "r/2", "r/4"]
    assert keys(splits.mixed(entries_of([0] * 6), seed=0, grouped=False)) == expected


def test_groups_are_mixed_but_read_once():
    entries = [Entry(f"r/{row}", 0, group=row // 10) for row in range(400)]
    order = splits.mixed(entries, 3, grouped=True)
    assert sorted(keys(order)) == sorted(keys(entries))
    groups = [entry.group for entry in order]
    windows = [set(groups[start : start + 40]) for start in range(0, 400, 40)]
    assert all(len(window) == 4 for window in windows)
    assert windows[0] != {0, 1, 2, 3}
    assert sum(one != other for one, other in zip(groups, groups[1:], strict=False)) > 200


@pytest.mark.parametrize(("labels", "given_to_train"), [([0, 0, 0, 1], 1), ([0, 0], 0)])
def test_an_exact_split_that_leaves_a_class_bare_is_refused(labels, given_to_train):
    message = rf"class 'b' has {labels.count(1)} image\(s\).* gives {given_to_train} to train"
    with pytest.raises(DataError, match=message):
        splits.split(entries_of(labels), "ab", 0.7, seed=0, fixed=True)
