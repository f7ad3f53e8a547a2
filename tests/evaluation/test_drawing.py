import errno
import itertools
import os
import threading

import jax
import numpy as np
import pytest

from sid2core import rng
from sid2core.conditioning import Condition
from sid2core.diffusion.guidance import ConstantGuidance
from sid2core.evaluation import chunks, drawing, measuring
from sid2core.inference.generator import Generator
from sid2core.metrics.quality import Quality
from sid2core.training import cluster, mesh
from tests import tiny
from tests.evaluation.samplers import (
    CONDITION,
    LABELS,
    SEED,
    baseline,
    count_images,
    grid,
    real,
    run,
    samples,
    spec,
    stopped_after,
)


def drawn(one, where):
    """Draw and measure one set; what was drawn, and its quality."""
    measured = drawing.draw_and_measure([one], where, measuring.quality)
    return drawing.read(one, where), Quality(**measured[one.name])


@pytest.fixture
def made(monkeypatch):
    return count_images(monkeypatch)


def test_sample_i_has_label_i_mod_k_and_the_key_of_i(tmp_path):
    one, where = spec(), run(tmp_path)
    found, quality = drawn(samples(one), where)
    generator = Generator(one.method, one.params, 4)
    expected = generator.images(rng.key(SEED, "evaluate"), np.arange(10), CONDITION)
    assert found.images.dtype == np.uint8
    assert (found.images == expected).all()
    features = found.accumulator.features(where.evaluator.references[0], "pool")
    np.testing.assert_array_equal(features, where.evaluator.features(expected)["classifier.pool"])
    assert quality == where.evaluator.quality(expected, CONDITION)


def test_samplers_are_compared_on_the_same_noise(tmp_path):
    """One step of either network: they differ by their constant in every pixel."""
    plain, _ = drawn(samples(spec(steps=1, scale=0.1)), run(tmp_path / "plain"))
    guided, _ = drawn(
        samples(spec(ConstantGuidance(0.5), steps=1, scale=0.1)), run(tmp_path / "guided")
    )
    difference = guided.images.astype(int) - plain.images
    for label, by in ((0, -0.25), (1, -0.05), (2, 0.15)):
        assert np.abs(difference[LABELS == label] - 127.5 * by).max() <= 1


@pytest.mark.parametrize("chunk_size", [1, 3, 10, 64])
def test_the_size_of_chunks_does_not_matter(tmp_path, chunk_size):
    expected, quality = drawn(samples(), run(tmp_path / "a"))
    found, other = drawn(samples(), run(tmp_path / "b", chunk_size))
    assert (found.images == expected.images).all()
    assert other == quality


@pytest.mark.parametrize("devices", [1, 2, 8])
@pytest.mark.parametrize("batch_size", [7, 64])
def test_neither_batches_nor_devices_matter(tmp_path, devices, batch_size):
    """Seven do not share the devices evenly: the next number that does is drawn at once."""
    settings = tiny.params().runtime.mesh.model_copy(update={"data": devices, "fsdp": 1})
    sharding = mesh.layout(settings).batch
    assert (devices == 1) == (sharding is None)
    expected, quality = drawn(samples(), run(tmp_path / "a"))
    found, other = drawn(samples(), run(tmp_path / "b", 4, batch_size, sharding))
    assert np.abs(found.images.astype(int) - expected.images).max() <= 1
    assert (found.images == expected.images).mean() > 0.99
    assert other.fd_train == pytest.approx(quality.fd_train, rel=1e-6)


def test_only_images_that_are_shown_are_kept(tmp_path):
    whole, _ = drawn(samples(), run(tmp_path / "a"))
    some, _ = drawn(samples(keep=6), run(tmp_path / "b"))
    assert (some.images == whole.images[:6]).all()
    assert len(some.accumulator) == len(whole.accumulator) == 10


@pytest.mark.parametrize("after", range(5))
def test_after_a_kill_the_same_bytes(tmp_path, monkeypatch, made, after):
    """Of three chunks, the measurement and the chunk of a grid, ``after`` were written."""
    sets = [samples(), grid(2)]

    def everything(where):
        quality = drawing.draw_and_measure(sets, where, measuring.quality)
        return [quality, *(drawing.read(one, where).images.tobytes() for one in sets)]

    expected = everything(run(tmp_path / "undisturbed"))
    assert made == [4, 4, 2, 4, 2]
    with stopped_after(monkeypatch, after):
        everything(run(tmp_path / "killed"))
    made.clear()
    assert everything(run(tmp_path / "killed")) == expected
    assert made == [4, 4, 2, 4, 2][after:]


@pytest.mark.parametrize("after", range(6))
def test_a_full_disk_loses_one_chunk_and_the_same_call_continues(tmp_path, monkeypatch, after):
    """The disk is full when the ``after``-th file, a chunk or its checksum, is written."""
    expected = drawn(samples(), run(tmp_path / "undisturbed"))[1]
    fsync, calls = os.fsync, itertools.count()

    def full(descriptor):
        if next(calls) >= after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            drawn(samples(), run(tmp_path / "full"))
    assert not list((tmp_path / "full").rglob("*.tmp"))
    assert drawn(samples(), run(tmp_path / "full"))[1] == expected


def test_intact_chunks_are_read_and_not_drawn_again(tmp_path, made):
    drawn(samples(), run(tmp_path))
    path = tmp_path / "base" / "chunk-00000004.npz"
    chunks.write(path, chunks.read(path) | {"images": np.full((4, 4, 4, 1), 7, np.uint8)})
    made.clear()
    found, _ = drawn(samples(), run(tmp_path))
    assert made == []
    assert (found.images[4:8] == 7).all()


def truncated(path):
    path.write_bytes(path.read_bytes()[:-20])


def flipped(path):
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"\x93NUMPY") + 140] ^= 1
    path.write_bytes(raw)


def of_other_images(path):
    chunks.write(path, chunks.read(path) | {"indices": np.arange(4)})


@pytest.mark.parametrize("damage", [truncated, flipped, of_other_images])
def test_a_damaged_chunk_is_drawn_again(tmp_path, made, damage):
    expected, quality = drawn(samples(), run(tmp_path))
    last = tmp_path / "base" / "chunk-00000008.npz"
    before = chunks.read(last)
    damage(last)
    made.clear()
    found, other = drawn(samples(), run(tmp_path))
    assert made == [2]
    assert (found.images == expected.images).all()
    assert other == quality
    assert all(
        (chunks.read(last)[name] == before[name]).all() for name in before if name != "seconds"
    )


@pytest.mark.parametrize("damage", [truncated, flipped])
def test_a_damaged_measurement_is_made_again(tmp_path, made, damage):
    _, quality = drawn(samples(), run(tmp_path))
    damage(tmp_path / "base" / "measured.npz")
    made.clear()
    _, other = drawn(samples(), run(tmp_path))
    assert (made, other) == ([], quality)


def test_a_missing_chunk_is_an_error_with_its_cure(tmp_path):
    drawn(samples(), run(tmp_path))
    (tmp_path / "base" / "chunk-00000004.npz").unlink()
    with pytest.raises(chunks.ChunkError, match=r"chunk-00000004\.npz.*run the same command again"):
        drawing.read(samples(), run(tmp_path))


def together(count, work, monkeypatch):
    """Run ``work()`` as if by ``count`` processes, each in a thread of its own."""
    own, barrier, results = threading.local(), threading.Barrier(count), [None] * count
    monkeypatch.setattr(jax, "process_count", lambda: count)
    monkeypatch.setattr(jax, "process_index", lambda: own.index)
    monkeypatch.setattr(cluster, "wait", lambda name: barrier.wait(60))

    def process(index):
        own.index = index
        results[index] = work()

    threads = [threading.Thread(target=process, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("count", [2, 3])
def test_processes_share_chunks_and_measurements(tmp_path, monkeypatch, made, count):
    sets = [
        samples(),
        grid(2),
        baseline(9),
    ]
    measured = []

    def measure(accumulator):
        measured.append((jax.process_index(), len(accumulator)))
        return measuring.quality(accumulator)

    alone = drawing.draw_and_measure(sets, run(tmp_path / "alone"), measure)
    assert measured == [(0, 10), (0, 9)]
    made.clear()
    measured.clear()
    where = run(tmp_path / "together")
    results = together(count, lambda: drawing.draw_and_measure(sets, where, measure), monkeypatch)
    assert results == [alone] * count
    assert sorted(made) == [2, 2, 4, 4, 4]
    assert sorted(measured) == [(0, 10), (1, 9)]
    files = [
        sorted(path.relative_to(folder) for path in folder.rglob("*.npz"))
        for folder in (tmp_path / "alone", tmp_path / "together")
    ]
    assert files[0]
    assert files[0] == files[1]
    for name in files[0]:
        one, other = (chunks.read(tmp_path / folder / name) for folder in ("alone", "together"))
        assert all((one[key] == other[key]).all() for key in one if key != "seconds")


def test_time_is_that_of_batches_but_the_first(tmp_path):
    """The first batch may include the compilation; of one batch alone there is no time."""
    found, _ = drawn(samples(spec(steps=2)), run(tmp_path / "some"))
    assert 0 < found.seconds < 60
    one, _ = drawn(samples(), run(tmp_path / "one", 16, 16))
    assert one.seconds is None


def test_a_chunk_has_eight_batches_unless_its_size_is_given(tmp_path):
    where = run(tmp_path, chunk_size=None, batch_size=50)
    assert where.chunk_size == 400


def test_the_grid_has_a_class_a_row_and_a_key_a_column(tmp_path):
    one = grid(5, spec(steps=1, scale=0.2))
    where = run(tmp_path)
    assert drawing.draw_and_measure([one], where, measuring.quality) == {}
    found = drawing.read(one, where)
    assert len(found.accumulator) == 0
    shown = found.images.reshape(3, 5, 4, 4, 1)
    lifted = shown.astype(int) - np.array([-51, 0, 51])[:, None, None, None, None]
    for column in range(5):
        assert np.abs(lifted[:, column] - lifted[0, column]).max() <= 1
        for other in range(column):
            assert np.abs(lifted[0, column] - lifted[0, other]).max() > 1
    evaluated, _ = drawn(samples(spec(steps=1, scale=0.2)), run(tmp_path))
    assert not any((shown[0, 0] == image).all() for image in evaluated.images)


def shown(one):
    return one.dataset.take(one.indices)[:, 0, 0, 0].tolist()


def test_the_baseline_is_real_images_without_repetition(tmp_path):
    one, where = baseline(20), run(tmp_path)
    assert len(set(shown(one))) == len(shown(one)) == 20
    found, quality = drawn(one, where)
    condition = Condition(label=real().labels[one.indices])
    assert quality == where.evaluator.quality(real().take(one.indices), condition)
    assert found.seconds is None


def test_the_baseline_depends_on_the_seed():
    found = [shown(baseline(20, seed)) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_the_baseline_is_all_images_if_more_are_asked_for():
    assert shown(baseline(500)) == list(range(30))
