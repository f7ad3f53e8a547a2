import numpy as np
import pytest

from sid2core.evaluation import chunks
from tests.damage import DAMAGES

ARRAYS = {
    "indices": np.arange(3),
    "classifier.pool": np.float32([[1.5, 2.5], [3.5, 4.5], [5.5, 6.5]]),
    "images": np.zeros((0, 4, 4, 1), np.uint8),
}


def same(found):
    return list(found) == list(ARRAYS) and all(
        found[name].dtype == ARRAYS[name].dtype and np.array_equal(found[name], ARRAYS[name])
        for name in ARRAYS
    )


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "base" / "chunk.npz"
    chunks.write(path, ARRAYS)
    assert same(chunks.read(path))
    assert chunks.intact(path, np.arange(3))
    assert sorted(path.parent.iterdir()) == [path, path.with_name("chunk.npz.sha256")]


def test_a_flipped_bit_is_found_or_changes_nothing(tmp_path):
    path = tmp_path / "chunk.npz"
    chunks.write(path, ARRAYS)
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        raw = bytearray(whole)
        raw[place] ^= 1
        path.write_bytes(raw)
        try:
            found = chunks.read(path)
        except chunks.ChunkError:
            refused += 1
        else:
            assert same(found)
    assert refused > len(whole) / 2


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_a_truncated_chunk_is_refused_with_the_cure(tmp_path, size):
    path = tmp_path / "chunk.npz"
    chunks.write(path, ARRAYS)
    path.write_bytes(path.read_bytes()[:size])
    assert not chunks.intact(path, np.arange(3))
    with pytest.raises(chunks.ChunkError, match=r"chunk\.npz.*run the same command again"):
        chunks.read(path)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["chunk.npz", "chunk.npz.sha256"])
def test_a_damaged_chunk_is_reported_and_not_intact(tmp_path, caplog, damage, name):
    path = tmp_path / "chunk.npz"
    chunks.write(path, ARRAYS)
    damage(tmp_path / name)
    assert not chunks.intact(path, np.arange(3))
    assert f"{path} is damaged" in caplog.text


def test_a_chunk_of_other_images_is_not_intact(tmp_path):
    path = tmp_path / "chunk.npz"
    chunks.write(path, ARRAYS)
    assert not chunks.intact(path, np.arange(1, 4))
    assert not chunks.intact(path, np.arange(4))
    assert not chunks.intact(tmp_path / "other.npz", np.arange(3))
