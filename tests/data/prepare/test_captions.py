from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sid2core.data.errors import DataError
from sid2core.data.load import shards
from sid2core.data.load.dataset import Dataset
from sid2core.data.load.reading import Shards
from sid2core.data.prepare import captions, listing, overview
from sid2core.data.sources import protocol
from tests import tiny
from tests.data import packs
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


def listed(folder, members, **keys):
    """The parts of a folder of images with these files beside them."""
    for name, content in members.items():
        packs.write(folder / name, content)
    values = {"path": str(folder), "image_size": 4, "channels": 3, "train_fraction": 0.5} | keys
    return listing.parts(tiny.params(data=tiny.source("folder", **values)).data, 0)


def images(count):
    return {f"{number:03d}.png": packs.png(number) for number in range(count)}


def test_missing_captions_stop_before_anything_is_read(tmp_path):
    members = images(40) | {f"{number:03d}.txt": b"a" for number in range(35)}
    with pytest.raises(DataError, match=r"of \d+ images have no caption, such as 03\d") as error:
        listed(tmp_path / "a", members | {"39.cap": b"a", "039.cap": b"a"})
    assert "data.max_missing_captions allows a share of 0.05" in str(error.value)
    assert "1 file(s) such as 039.cap are not read; expected .caption" in str(error.value)
    parts = listed(tmp_path / "b", members, max_missing_captions=0.5)
    assert [part.captioned for part in parts] == [True, True]
    assert "images without a caption: 5\ncaptions without an image: 0" in overview.table(parts)
    parts = listed(tmp_path / "b", members, captions="none")
    assert not parts[0].captioned
    assert "caption" not in overview.table(parts)


def test_the_share_of_missing_captions_is_that_of_both_splits(tmp_path):
    """Of a small eval split a single image may be half."""
    members = images(20) | {f"{number:03d}.txt": b"a" for number in range(20)}
    parts = listed(tmp_path / "a", members, train_fraction=0.7, max_missing_captions=0.1)
    first = parts[1].entries[0].key
    del members[first.replace("png", "txt")]
    parts = listed(tmp_path / "b", members, train_fraction=0.7, max_missing_captions=0.1)
    held_out = [entry.captioned for entry in parts[1].entries]
    assert (held_out.count(False), len(held_out) < 10) == (1, True)


def test_one_folder_beside_a_table_of_another_name_is_no_class(tmp_path):
    members = {f"Images/{name}": content for name, content in images(8).items()}
    with pytest.raises(DataError, match=r"neither classes nor captions; captions\.txt is not read"):
        listed(tmp_path, members | {"captions.txt": b"image,caption\n000.png,a\n"})


def test_required_captions_must_be_there(tmp_path):
    with pytest.raises(DataError, match=r"data\.captions is required; metadata\.json1 is not read"):
        listed(tmp_path, images(8) | {"metadata.json1": b"{}"}, captions="required")


def test_files_that_are_nearly_captions_stop_where_there_is_nothing_else(tmp_path, caplog):
    near = "metadata.json1 is not read; expected metadata.jsonl"
    with pytest.raises(DataError, match=f"neither classes nor captions; {near}: rename"):
        listed(tmp_path / "a", images(8) | {"metadata.json1": b"{}"})
    classes = {f"{kind}/{name}": one for kind in "xy" for name, one in images(8).items()}
    parts = listed(tmp_path / "b", classes | {"metadata.json1": b"{}"})
    assert parts[0].class_names == ("x", "y")
    assert near in caplog.text


def test_both_splits_have_captions_or_none(tmp_path):
    for name, content in images(4).items():
        packs.write(tmp_path / "val" / name, content)
    members = images(4) | {f"{number:03d}.txt": b"a" for number in range(4)}
    with pytest.raises(DataError, match="path has captions and eval_path has none"):
        listed(tmp_path / "train", members, eval_path=str(tmp_path / "val"))


def test_examples_are_the_first_records_with_captions(tmp_path):
    path = write(tmp_path / "a", [[], ["<b>", "x" * 1000, "c", "d"], *[["y"]] * 20])
    found = captions.examples([path])
    assert [one["row"] for one in found] == [*range(1, 9)]
    assert found[0]["captions"] == ["<b>", "x" * 299 + "…", "c"]
