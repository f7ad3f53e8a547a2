import json
import socket
import subprocess
import sys
import textwrap
import threading
import traceback
from contextlib import closing
from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sid2core import config
from sid2core.conditioning import Condition
from sid2core.data.errors import DataError
from sid2core.data.load.loader import Batch, Loader, on_devices
from tests import tiny
from tests.data import stored

SIZES = st.lists(st.integers(1, 8), min_size=1, max_size=40)
CHANCE = config.Loader(horizontal_flip=True, max_shift=1, clip_frames=None)


def processes(dataset, batch_size, count, **others):
    return [
        Loader(dataset, batch_size, 0, process_index=index, process_count=count, **others)
        for index in range(count)
    ]


def joined(batches):
    images, conditions = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate([one.label for one in conditions])


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(7, 40), st.sampled_from([1, 2, 3, 4, 7]), st.integers(1, 2))
def test_together_processes_see_each_image_once_an_epoch(sizes, batch_size, count, epochs):
    dataset = stored.numbered(sizes)
    size, seen = len(dataset), np.zeros(len(dataset), int)
    loaders = processes(dataset, batch_size, count)
    for step in range(-(-epochs * size // batch_size)):
        images, labels = joined(one.batch(step) for one in loaders)
        assert (stored.numbers(images) == labels).all()
        np.add.at(seen, labels, 1)
        shown = (step + 1) * batch_size
        assert seen.sum() == shown
        assert shown // size <= seen.min() <= seen.max() <= -(-shown // size)


@settings(max_examples=8, deadline=None)
@given(SIZES, st.integers(7, 40), st.integers(0, 10**6))
def test_the_batch_of_a_step_is_the_same_for_any_number_of_processes(sizes, batch_size, step):
    dataset = stored.numbered(sizes, (3, 4, 1))
    whole = processes(dataset, batch_size, 1, augment=CHANCE)[0].batch(step)
    for count in (2, 3, 4, 7):
        shares = [one.batch(step) for one in processes(dataset, batch_size, count, augment=CHANCE)]
        lengths = [len(share.examples) for share in shares]
        assert max(lengths) - min(lengths) <= 1
        for part, expected in zip(joined(shares), jax.tree.leaves(whole), strict=True):
            np.testing.assert_array_equal(part, expected)


def test_a_batch_pairs_images_with_their_labels():
    batch = Loader(stored.numbered([100] * 10), 64, seed=5).batch(123)
    assert (batch.examples.shape, batch.examples.dtype) == ((64, 2, 2, 1), np.uint8)
    assert batch.condition.label.dtype == np.int32
    assert (stored.numbers(batch.examples) == batch.condition.label).all()


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_single_image_fills_any_batch(batch_size):
    loader = Loader(stored.numbered([1]), batch_size, 0)
    assert loader.batch(3).condition.label.tolist() == [0] * batch_size


def test_an_image_that_comes_again_is_changed_anew():
    images = np.random.default_rng(0).integers(0, 256, (1, 9, 9, 1), dtype=np.uint8)
    loader = Loader(stored.dataset(images, [0], "a"), 8, 0, CHANCE)
    seen = {image.tobytes() for step in range(20) for image in loader.batch(step).examples}
    assert len(seen) == 18
    assert Loader(loader.dataset, 8, 0).batch(3).examples.tobytes() == images.tobytes() * 8


GROUP_MIB = 16 * 4 / 2**20


@pytest.mark.parametrize(
    ("room", "reads", "warns"),
    [
        (400, 1.0, False),  # all that there is
        (80, 1.3, False),  # what is open at a time: those at the seams of rings come twice
        (0, 4.0, True),  # what a batch needs, which is held whatever the limit says
    ],
)
def test_how_often_row_groups_are_read_depends_on_the_room_for_them(caplog, room, reads, warns):
    dataset = stored.numbered([16] * 400, cache_mib=room * GROUP_MIB)
    for _ in Loader(dataset, 64, 0).stream(0, 100):
        pass
    assert set(dataset.groups.read) == set(range(400))
    assert len(dataset.groups.read) <= reads * 400
    # A batch takes two records from each of 32 lanes.
    assert dataset.cache.held <= max(room, 64) * 16 * 4
    assert ("lower data.row_group_records" in caplog.text) == warns


# The stream


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_a_stream_is_the_batches_one_after_another_on_the_device(prefetch):
    loader = Loader(stored.numbered([20] * 5), 16, 0, CHANCE, prefetch)
    for start, steps in ((0, 9), (4, 2), (7, 1), (10**9, 3), (5, 0)):
        found = list(loader.stream(start, steps))
        assert len(found) == steps
        for step, batch in enumerate(found, start):
            assert isinstance(batch, Batch)
            pairs = zip(*map(jax.tree.leaves, (batch, loader.batch(step))), strict=True)
            for part, expected in pairs:
                assert isinstance(part, jax.Array)
                assert part.dtype == expected.dtype
                np.testing.assert_array_equal(part, expected)


def test_a_batch_goes_to_a_processor_without_a_copy():
    """Two copies of a batch would be two passes over memory, as much as making it takes."""
    loader = Loader(stored.numbered([20] * 5, (9, 9, 3)), 16, 0)
    batch = loader.batch(0)
    assert on_devices(batch, 16).examples.unsafe_buffer_pointer() == batch.examples.ctypes.data


def alive():
    return [one.name for one in threading.enumerate() if one.name.startswith("loader")]


def test_so_many_batches_are_made_ahead_and_no_more(monkeypatch):
    loader = Loader(stored.numbered([20]), 4, 0, prefetch=3)
    made, reached = [], threading.Semaphore(0)
    batch = Loader.batch
    monkeypatch.setattr(
        Loader,
        "batch",
        lambda self, step: (made.append(step), reached.release(), batch(self, step))[-1],
    )
    with closing(loader.stream(10, 100)) as stream:
        for taken in range(1, 5):
            next(stream)
            for _ in range(4 if taken == 1 else 1):
                assert reached.acquire(timeout=60)
            assert made == list(range(10, 13 + taken))
    assert alive() == []


@pytest.mark.parametrize("prefetch", [1, 3])
def test_batches_are_decoded_and_transferred_while_a_step_runs(monkeypatch, prefetch):
    """The others wait for the first step to run, and the step waits for them."""
    events, runs, transferred = [], threading.Event(), threading.Semaphore(0)

    def transfer(*args):
        if events:
            assert runs.wait(timeout=60)
        events.append("batch")
        transferred.release()
        return on_devices(*args)

    monkeypatch.setattr("sid2core.data.load.loader.on_devices", transfer)
    with closing(Loader(stored.numbered([20]), 4, 0, prefetch=prefetch).stream(0, 100)) as stream:
        next(stream)
        assert transferred.acquire(timeout=60)
        events.append("step begins")
        runs.set()
        for _ in range(prefetch):
            assert transferred.acquire(timeout=60)
        events.append("step ends")
    assert events == ["batch", "step begins", *["batch"] * prefetch, "step ends"]


def broken(at, monkeypatch):
    batch = Loader.batch

    def breaks(self, step):
        if step == at:
            raise DataError("the shard is gone")
        return batch(self, step)

    monkeypatch.setattr(Loader, "batch", breaks)
    return breaks


@pytest.mark.parametrize("prefetch", [0, 2])
def test_what_fails_is_raised_at_its_batch_with_the_place_where_it_did(monkeypatch, prefetch):
    broken(3, monkeypatch)
    stream = Loader(stored.numbered([20]), 4, 0, prefetch=prefetch).stream(0, 10)
    assert [len(next(stream).examples) for _ in range(3)] == [4, 4, 4]
    with pytest.raises(DataError, match="the shard is gone") as caught:
        next(stream)
    assert "breaks" in {frame.name for frame in traceback.extract_tb(caught.value.__traceback__)}
    assert alive() == []
    assert list(stream) == []


@pytest.mark.parametrize("taken", [0, 1, 4, 10])
def test_a_closed_stream_leaves_no_thread_behind(taken):
    stream = Loader(stored.numbered([20]), 4, 0, prefetch=2).stream(0, 10)
    for _ in range(taken):
        next(stream)
    assert alive() == (["loader_0"] if 0 < taken else [])
    stream.close()
    assert alive() == []
    stream.close()


def test_closing_waits_for_no_more_than_the_batch_under_way(monkeypatch, unchecked):
    begun, go = threading.Event(), threading.Event()
    made = []

    def waits(self, step):
        if step:
            begun.set()
            assert go.wait(timeout=60)
        made.append(step)
        return Batch(np.zeros((4, 2, 2, 1), np.uint8), Condition())

    monkeypatch.setattr(Loader, "batch", waits)
    monkeypatch.setattr("sid2core.data.load.loader.on_devices", lambda batch, *others: batch)
    stream = Loader(stored.numbered([20]), 4, 0, prefetch=5).stream(0, 100)
    next(stream)
    assert begun.wait(timeout=60)
    threading.Timer(0.05, go.set).start()
    stream.close()
    assert made == [0, 1]
    assert alive() == []


def test_a_stream_without_references_ends():
    stream = Loader(stored.numbered([20]), 4, 0, prefetch=2).stream(0, 10)
    next(stream)
    del stream
    assert alive() == []


# Several devices


def over(*devices):
    return NamedSharding(Mesh(devices, ("data",)), PartitionSpec("data"))


def test_devices_share_a_batch_in_its_order():
    loader = Loader(stored.numbered([20] * 5), 16, 0, prefetch=1, sharding=over(*jax.devices()[:4]))
    (batch,) = loader.stream(3, 1)
    expected = loader.batch(3)
    np.testing.assert_array_equal(batch.examples, expected.examples)
    for number, shard in enumerate(batch.condition.label.addressable_shards):
        assert shard.device == jax.devices()[number]
        np.testing.assert_array_equal(
            shard.data, expected.condition.label[4 * number : 4 * (number + 1)]
        )


def test_a_batch_that_devices_cannot_share_is_refused():
    batch = Loader(stored.numbered([20]), 6, 0).batch(0)
    with pytest.raises(DataError, match="a batch of 6 cannot be divided over 4 devices.*multiples"):
        on_devices(batch, 6, over(*jax.devices()[:4]))


MEMBER = """
    import sys
    import jax
    import numpy as np
    from sid2core.pipeline import artifact
    from sid2core.data.load.dataset import Dataset
    from sid2core.data.load.loader import Loader

    address, index = sys.argv[1], int(sys.argv[2])
    jax.distributed.initialize(address, num_processes=2, process_id=index)
    assert len(jax.devices()) == 4
    dataset = Dataset.open(artifact.load("prepare"), "train")
    sums = []
    for batch in Loader(dataset, 8, seed=0, prefetch=1).stream(5, 3):
        assert batch.examples.shape == (8, 3, 2, 1)
        labels = batch.condition.label.addressable_shards
        own = sorted(labels, key=lambda shard: shard.index[0].start)
        sums.append([shard.index[0].start for shard in own])
        sums.append(np.concatenate([shard.data for shard in own]).tolist())
        # A computation over all: every process sees the whole batch's sum.
        sums.append(int(jax.jit(lambda x: x.astype(int).sum())(batch.examples)))
    print(sums)
"""


def test_two_processes_make_one_global_batch(tmp_path):
    """As JAX runs them, over loopback, two devices each."""
    images, _ = stored.records(40, (3, 2, 1))
    labels = np.arange(40) % 3
    stored.prepared(tmp_path / "artifacts", images, labels, sizes=((4,) * 5, (4,) * 5))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    members = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(MEMBER), address, str(index)],
            cwd=tmp_path,
            env=tiny.environment(XLA_FLAGS="--xla_force_host_platform_device_count=2"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        said = [member.communicate(timeout=300) for member in members]
    finally:
        for member in members:
            member.kill()
    assert [member.returncode for member in members] == [0, 0], said
    found = [json.loads(out.splitlines()[-1]) for out, _ in said]  # after what Gloo prints
    dataset = stored.dataset(images, labels, "abc", [4] * 10)
    loader = Loader(dataset, 8, 0)
    for number, step in enumerate((5, 6, 7)):
        whole = loader.batch(step)
        for index in range(2):
            starts, own, total = found[index][3 * number : 3 * number + 3]
            assert starts == [4 * index, 4 * index + 2]
            assert own == whole.condition.label[4 * index : 4 * index + 4].tolist()
            assert total == whole.examples.sum(dtype=int)


@pytest.mark.parametrize("count", [1, 2])
def test_training_sees_random_windows_of_clips_and_statistics_the_first(count):
    """Frame t of clip i shows (i, t); the window of an example is a function of its position."""
    clips = np.zeros((3, 9, 1, 1, 3), np.uint8)
    clips[..., 0] = np.arange(3)[:, None, None, None]
    clips[..., 1] = np.arange(9)[None, :, None, None]
    dataset = replace(stored.dataset(clips, np.zeros(3), ["one"], [1, 2]), clip_frames=4)
    settings = config.Loader(horizontal_flip=False, max_shift=0, clip_frames=4)
    whole = Loader(dataset, 60, 0, settings).batch(0).examples
    parts = [
        Loader(dataset, 60, 0, settings, process_index=index, process_count=count).batch(0).examples
        for index in range(count)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    first = whole[:, 0, 0, 0, 1]
    assert set(first) == set(range(6))
    np.testing.assert_array_equal(whole[..., 0, 0, 1], first[:, None] + np.arange(4))
    assert (whole[..., 0] == whole[:, :1, ..., 0]).all()
    plain = Loader(dataset, 6, 0).batch(0).examples
    assert (plain[..., 0, 0, 1] == np.arange(4)).all()
