import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sid2core.data.dataset import Dataset
from sid2core.data.loader import Loader


def dataset_of(size):
    """Image i holds the number i, and so does its label."""
    numbers = np.arange(size)
    images = np.zeros((size, 2, 2, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = numbers % 256, numbers // 256
    keys = tuple(map(str, numbers))
    return Dataset("train", tuple("abc"), images, numbers.astype(np.int32), keys)


@given(st.integers(1, 40), st.integers(1, 100), st.integers(0, 5), st.integers(1, 4))
def test_each_epoch_shows_each_image_once(size, batch_size, seed, epochs):
    loader = Loader(dataset_of(size), batch_size, seed)
    steps = -(-epochs * size // batch_size)
    stream = np.concatenate([loader.batch(step).labels for step in range(steps)])
    for epoch in range(epochs):
        assert sorted(stream[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_batches_pair_images_with_their_labels():
    batch = Loader(dataset_of(1000), 64, seed=5).batch(123)
    assert batch.images.shape == (64, 2, 2, 1)
    assert batch.images.dtype == np.uint8
    assert batch.labels.dtype == np.int32
    numbers = batch.images[:, 0, 0, 0] + 256 * batch.images[:, 0, 1, 0].astype(int)
    np.testing.assert_array_equal(numbers, batch.labels)


def test_any_step_can_be_asked_at_once():
    dataset = dataset_of(50)
    sequential = [Loader(dataset, 7, 1).indices(step).tolist() for step in range(40)]
    fresh = Loader(dataset, 7, 1)
    for step in (39, 0, 17, 39, 16):
        assert fresh.indices(step).tolist() == sequential[step]
    assert len(fresh.indices(10**9)) == 7


def test_seeds_epochs_and_the_stored_order_differ():
    dataset = dataset_of(100)
    orders = [Loader(dataset, 100, seed).indices(epoch) for seed in (0, 1) for epoch in (0, 1)]
    orders.append(np.arange(100))
    assert len({tuple(order) for order in orders}) == 5


def test_every_image_comes_first_about_as_often():
    loader = Loader(dataset_of(4), 4, seed=0)
    first = np.bincount([loader.indices(step)[0] for step in range(4000)], minlength=4)
    # Four standard deviations of a binomial of 4000 throws at 1/4.
    assert np.abs(first - 1000).max() < 4 * np.sqrt(4000 * 0.25 * 0.75)


def test_known_order_never_changes():
    # Another order would change every result, and break off every unfinished run.
    assert Loader(dataset_of(8), 8, seed=0).indices(0).tolist() == [0, 7, 1, 4, 2, 6, 3, 5]


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_single_image_fills_any_batch(batch_size):
    assert Loader(dataset_of(1), batch_size, 0).batch(3).labels.tolist() == [0] * batch_size
