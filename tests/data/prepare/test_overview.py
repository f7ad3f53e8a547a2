import csv
import json
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from sid2core.data.prepare import overview, preparation
from sid2core.data.prepare.counts import Reject
from sid2core.data.prepare.listing import Part
from sid2core.data.prepare.workers import Workers
from sid2core.data.sources.fields import Fields
from tests import tiny
from tests.data.made import Plain

SIZES = tiny.params(
    data={"shard_records": 16, "row_group_records": 4, "max_reject_fraction": 0.9}
    | {"max_missing_captions": 0.5}
).data


def prepared(folder, train, held_out, problems=()):
    """Both parts, with their shards in ``folder / made``."""
    parts = [
        Part("train", train, train.class_names, train.index(), problems),
        Part("eval", held_out, held_out.class_names, held_out.index(), []),
    ]
    (folder / "work").mkdir()
    preparation.write(parts, folder / "work", SIZES, Workers(1))
    (folder / "made").mkdir()
    for part in parts:
        preparation.place(part, folder / "work", folder / "made")
    return parts


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_metadata_and_tables_add_up(tmp_path):
    problems = [Reject("train", f"x{row}", 'odd, "very"') for row in range(3)]
    parts = prepared(tmp_path, Plain(40, broken=frozenset({2, 3})), Plain(9), problems)
    metadata = overview.metadata(parts, tmp_path / "made")
    assert metadata["shape"] == [4, 4, 1]
    assert metadata["class_names"] == ["a", "b"]
    train, held_out = metadata["splits"]["train"], metadata["splits"]["eval"]
    assert (train["records"], train["per_class"], train["rejected"]) == (38, [19, 19], 5)
    assert (held_out["records"], held_out["per_class"], held_out["rejected"]) == (9, [5, 4], 0)
    levels = [row for row in range(40) if row not in (2, 3)]
    assert train["mean"] == [pytest.approx(np.mean(levels), abs=1e-4)]
    assert train["std"] == [pytest.approx(np.std(levels), abs=1e-4)]
    json.dumps(metadata)

    overview.write(tmp_path / "reports", parts, tmp_path / "made")
    metrics = json.loads((tmp_path / "reports" / "metrics.json").read_text())
    assert metrics == {
        "train_images": 38,
        "eval_images": 9,
        "classes": 2,
        "rejected_images": 5,
        "eval_images_in_train": 7,  # 2 and 3 are broken there
    }
    classes = rows(tmp_path / "reports" / "classes.csv")
    assert classes == [
        ["label", "split", "images"],
        *(["0", "train", "19"], ["1", "train", "19"], ["0", "eval", "5"], ["1", "eval", "4"]),
    ]
    assert rows(tmp_path / "reports" / "sizes.csv") == [["short_side", "images"], ["4", "47"]]
    brightness = rows(tmp_path / "reports" / "brightness.csv")[1:]
    assert sum(int(images) for _, images in brightness) == 47
    assert [int(images) for _, images in brightness[:5]] == [6 + 8, 8 + 1, 8, 8, 8]
    reasons = rows(tmp_path / "reports" / "rejects.csv")
    assert reasons == [["reason", "images"], ['odd, "very"', "3"], ["broken", "2"]]


@dataclass(frozen=True)
class Columns(Plain):
    fields: Fields = Fields("kind\n", ("url", "a\x1b[1m"))


def listed(source):
    return [Part("train", source, source.class_names, source.index(), [])]


def test_the_table_has_classes_and_fields_with_printable_names():
    text = overview.table(listed(Columns(5, class_names=("cat\n", "n" * 50))))
    cat, long = r"cat\n".ljust(40), "n" * 39 + "…"
    assert text.splitlines() == [
        f"label  {'class name':40}    train",
        f"    0  {cat}        3",
        f"    1  {long}        2",
        r"labels: kind\n",
        r"ignored fields: url, a\x1b[1m",
    ]
    many = overview.table(listed(Plain(5, class_names=tuple(map(str, range(1000))))))
    assert len(many.splitlines()) == 43
    assert "… 960 more classes, all in reports/prepare/classes.csv" in many
    assert many.endswith("ignored fields: none")


def test_of_many_reasons_the_rest_is_one_row(tmp_path):
    problems = [Reject("train", f"x{row}", f"reason {row}") for row in range(70)]
    parts = prepared(tmp_path, Plain(20), Plain(9), problems)
    overview.write(tmp_path / "reports", parts, tmp_path / "made")
    reasons = rows(tmp_path / "reports" / "rejects.csv")[1:]
    assert reasons[-1] == ["other reasons", "20"]
    assert sum(int(images) for _, images in reasons) == 70


def test_the_sheet_has_a_row_a_class(tmp_path):
    parts = prepared(tmp_path, Plain(40, (4, 6, 3)), Plain(9, (4, 6, 3)))
    overview.write(tmp_path / "reports", parts, tmp_path / "made")
    with Image.open(tmp_path / "reports" / "contact_sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    # 6 columns of pixels are enlarged six times, to 36 by 24, two apart.
    first_row, second_row = pixels[2 + 12, 96 + 10 :: 38], pixels[2 + 26 + 12, 96 + 10 :: 38]
    assert first_row[:, 0].tolist()[:8] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert second_row[:, 0].tolist()[:8] == [1, 3, 5, 7, 9, 11, 13, 15]


@pytest.mark.parametrize(
    ("side", "shown"), [(1, 32), (8, 32), (31, 62), (32, 32), (96, 96), (300, 96)]
)
def test_cells_are_enlarged_by_whole_numbers_or_reduced(side, shown):
    images = np.zeros((3, side, side, 3), np.uint8)
    sheet = overview.contact_sheet(
        images, np.arange(3, dtype=np.int32), [str(label) for label in range(50)]
    )
    assert sheet.size == (2 + 12 * (shown + 2), 2 + shown + 2)


def test_many_classes_make_a_grid_in_label_order():
    labels = np.arange(200)[::-1].astype(np.int32)
    images = np.broadcast_to(labels[:, None, None, None], (200, 32, 32, 1)).astype(np.uint8)
    sheet = np.asarray(overview.contact_sheet(images, labels, [str(label) for label in range(200)]))
    assert sheet.shape[:2] == (2 + 12 * 34, 2 + 12 * 34)
    centres = sheet[18::34, 18::34, 0]
    assert centres.ravel().tolist() == sorted(labels[:144].tolist())


def test_a_single_class_makes_a_grid_without_its_name():
    images = np.zeros((30, 32, 32, 3), np.uint8)
    sheet = overview.contact_sheet(images, np.zeros(30, np.int32), ["unlabelled"])
    assert sheet.size == (2 + 12 * 34, 2 + 3 * 34)
    cells = np.asarray(sheet)[18::34, 18::34]
    assert (cells == 0).all(axis=-1).sum() == 30


def test_clips_show_their_middle_frame(tmp_path):
    class Clips(Plain):
        def read(self, entry):
            content = super().read(entry)
            content.image[:] = np.array([10, 20, 30], np.uint8)[:, None, None, None]
            return content

    parts = prepared(tmp_path, Clips(20, (3, 32, 32, 3)), Plain(9, (3, 32, 32, 3)))
    overview.write(tmp_path / "reports", parts, tmp_path / "made")
    with Image.open(tmp_path / "reports" / "contact_sheet.png") as sheet:
        assert np.asarray(sheet)[18, 96 + 16].tolist() == [20, 20, 20]
