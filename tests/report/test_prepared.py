import json
import re
from pathlib import Path

import pandas as pd
import pytest

from sid2core.report import prepared
from sid2core.report.read import prepared_files
from sid2core.report.read.files import InputError
from tests.report import synthetic


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return synthetic.write(tmp_path) / "reports" / "prepare"


def text(table):
    return [[row.name, *(cell.text for cell in row.cells)] for row in table.rows]


def test_counts_per_split_and_reasons_are_shown(folder: Path):
    classes = pd.DataFrame(
        [(0, "train", 5), (1, "train", 7), (2, "train", 1200), (0, "eval", 1), (1, "eval", 0)],
        columns=["label", "split", "images"],
    )
    classes.to_csv(folder / "classes.csv", index=False)
    found = prepared.view(prepared_files.read(folder))
    assert text(found["splits"]) == [
        ["train", "1,212", "5", "7", "1,200"],
        ["eval", "1", "0", "0.5", "1"],
    ]
    assert found["rejected"] == 4
    assert found["reasons"] == [("no image by its name (.txt)", "3"), ("truncated", "1")]
    assert found["sheet"].startswith("data:image/png;base64,iVBOR")
    assert found["sides"].startswith("<svg")


def test_without_classes_there_are_no_numbers_per_class(folder: Path):
    classes = pd.DataFrame(
        [(0, "train", 1212), (0, "eval", 40)], columns=["label", "split", "images"]
    )
    classes.to_csv(folder / "classes.csv", index=False)
    found = prepared.view(prepared_files.read(folder), classes=False)
    assert found["splits"].columns == ("images",)
    assert text(found["splits"]) == [["train", "1,212"], ["eval", "40"]]
    assert found["per_class"] is None


def test_without_rejects_and_with_one_size(folder: Path):
    (folder / "metrics.json").write_text(json.dumps({"rejected_images": 0}))
    (folder / "rejects.csv").write_text("reason,images\n")
    (folder / "sizes.csv").write_text("short_side,images\n8,1797\n")
    found = prepared.view(prepared_files.read(folder))
    assert (found["rejected"], found["reasons"], found["sides"]) == (0, [], None)
    assert found["side"] == "8"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("contact_sheet.png", b"GIF89a", "contact_sheet.png is malformed: not a PNG file"),
        ("classes.csv", b"label,images\n0,1\n", r"no column \['split'\]"),
        ("sizes.csv", b"short_side,images\nbig,1\n", "column short_side"),
        ("metrics.json", b"{}", r"no number \['rejected_images'\]"),
    ],
)
def test_malformed_reports_are_named_with_the_cure(folder: Path, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        prepared_files.read(folder)
    assert "dvc repro -f -s prepare" in str(caught.value)


def test_a_missing_sheet_is_named(folder: Path):
    (folder / "contact_sheet.png").unlink()
    message = re.escape("contact_sheet.png not found; run `dvc repro prepare` to make it")
    with pytest.raises(InputError, match=message):
        prepared_files.read(folder)


def test_videos_and_clips_are_accounted_for():
    counts = {"videos": 1200, "videos_used": 1190, "clips": 2380, "rejected_clips": 15}
    counts |= {"rejected_videos": 5}
    metadata = {"videos": {"train": counts | {"missing_videos": 300}, "eval": counts}}
    table = prepared.videos(metadata)
    assert table is not None
    assert "files missing of the CSV files" in table.columns
    train, held_out = ([cell.text for cell in row.cells] for row in table.rows)
    assert train == ["1,200", "1,190", "5", "2,380", "15", "300"]
    assert held_out == [*train[:-1], ""]
    assert prepared.videos({}) is None
