from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sid2core.data.errors import DataError
from sid2core.data.load import shards
from sid2core.data.load.dataset import Dataset
from sid2core.data.load.reading import Shards
from sid2core.data.prepare import captions, overview
from sid2core.data.sources import protocol
from tests.data.made import Plain
from tests.data.prepare.test_overview import prepared


def write(path, rows):
    pq.write_table(pa.table({"captions": pa.array(rows, pa.list_(pa.string()))}), path)
    return path


def test_captions_are_counted_over_all_shards(tmp_path):
    paths = [
        write(tmp_path / "a", [["cat", "a cat"], [], [""], ["cat"]]),
        write(tmp_path / "b", [["\u200fחתול 🐈", "x" * 10_000], ["cat"]]),
    ]
    assert captions.summary(paths) == {
        "images": 6,
        "missing": 1,
        "captions": 7,
        "empty": 1,
        "distinct": 5,
        "duplicates": 2,
        "characters": {"median": 3, "max": 10_000},
    }
    none = captions.summary([write(tmp_path / "c", [[], []])])
    assert (none["missing"], none["captions"], none["characters"]["max"]) == (2, 0, 0)


@dataclass(frozen=True)
class Described(Plain):
    """The first value of ``level`` for even rows; ``kind`` is always the same."""

    captioned: bool = True
    wrong: int = -1

    attribution: str = "Drawn by A"

    @property
    def attributes(self):
        return {"level": ("even", "odd"), "kind": ("grey",)}

    def read(self, entry):
        found = super().read(entry)
        level = "strange" if entry.place == self.wrong else ("even", "odd")[entry.place % 2]
        values = {"level": level, "kind": "grey"}
        return protocol.Content(found.image, found.size, found.captions, values)


def test_attributes_have_a_column_in_the_order_of_the_manifest(tmp_path):
    parts = prepared(tmp_path, Described(5), Described(2))
    metadata = overview.metadata(parts, tmp_path / "made")
    assert metadata["captions"]["images"] == 7
    assert metadata["attribution"] == "Drawn by A"
    assert list(metadata["attributes"].items()) == [("kind", ["grey"]), ("level", ["even", "odd"])]
    layout = parts[0].layout
    assert layout == shards.Layout((4, 4, 1), ("a", "b"), "train", True, ("kind", "level"))
    found = Dataset(Shards([tmp_path / "made" / name for name in parts[0].shards], layout))
    assert found.column("attributes") == [["grey", ("even", "odd")[row % 2]] for row in range(5)]
    assert found.captions == [[f"level {row}"] * (row % 3) for row in range(5)]


def test_a_value_that_the_source_does_not_list_stops(tmp_path):
    with pytest.raises(DataError, match="strange.*expected a value of each of"):
        prepared(tmp_path, Described(5, wrong=3), Described(2))


def test_data_without_captions_have_nothing_of_them(tmp_path):
    parts = prepared(tmp_path, Plain(5), Plain(2))
    assert not {"captions", "attributes", "attribution"} & set(
        overview.metadata(parts, tmp_path / "made")
    )
    schema = pq.read_schema(tmp_path / "made" / parts[0].shards[0])
    assert schema.names == ["image", "label", "key"]
    assert b"attributes" not in schema.metadata[b"sid2"]
