import itertools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from sid2core.data import sources
from sid2core.data.errors import DataError
from sid2core.data.sources import Record


@dataclass(frozen=True)
class Given:
    given: tuple[Record, ...]
    class_names: tuple[str, ...] = ("a", "b")

    def records(self):
        return iter(self.given)


def record(key="k", *, shape=(2, 3, 1), dtype=np.uint8, label=0):
    return Record(key, np.zeros(shape, dtype), label)


def test_digits_are_what_scikit_learn_carries():
    from sklearn.datasets import load_digits

    records = sources.read(sources.SOURCES["digits"])
    expected = load_digits()
    assert len(records) == 1797
    assert [item.label for item in records] == expected.target.tolist()
    assert records[0].key == "digits/00000"
    assert records[-1].key == "digits/01796"
    half = Fraction(1, 2)
    bytes_of = [int(Fraction(255 * level, 16) + half) for level in range(17)]
    assert (bytes_of[0], bytes_of[8], bytes_of[16]) == (0, 128, 255)
    table = np.array(bytes_of)[expected.images.astype(int)]
    np.testing.assert_array_equal(np.stack([item.image[..., 0] for item in records]), table)


def test_every_source_starts_anew_at_each_call():
    for source in sources.SOURCES.values():
        first, second = (list(itertools.islice(source.records(), 5)) for _ in range(2))
        assert [item.key for item in first] == [item.key for item in second]
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one.image, other.image)


def test_read_keeps_order():
    given = (record("z"), record("a", label=1))
    assert sources.read(Given(given)) == list(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "no record"),
        ((record("x"), record("x")), "key x comes twice"),
        ((record(label=2),), "has label 2; expected 0 to 1"),
        ((record(label=-1),), "has label -1"),
        ((record(dtype=np.float32),), "float32"),
        ((record(shape=(2, 3)),), "channels last"),
        ((record("x"), record("y", shape=(3, 2, 1))), r"y is uint8 of shape \(3, 2, 1\)"),
    ],
)
def test_bad_records_are_refused(given, message):
    with pytest.raises(DataError, match=message):
        sources.read(Given(given))
