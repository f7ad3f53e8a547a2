from pathlib import Path

import pytest

from sid2core.report.read import measured
from sid2core.report.read.files import InputError
from tests.report import synthetic

TITLES = {"base": "Base", "train_images": "Real training images"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return synthetic.write(tmp_path) / "reports/evaluate"


def test_a_distance_shows_its_interval_and_its_bias(folder: Path) -> None:
    own, inception = measured.view(measured.read(folder), TITLES)["extractors"]
    assert own["name"] == "the data set’s own extractor"
    assert own["table"].columns == ("fd eval", "kd train", "precision")
    first = own["table"].rows[0]
    assert first.name == "Base"
    assert [cell.text for cell in first.cells] == [
        "3.50 (3.25 to 3.75)",
        "0.0400 ± 0.0100",
        "0.500",
    ]
    assert own["biases"] == [("fd eval", "0.125")]
    assert inception["table"].columns == ("FID eval",)
    assert inception["biases"] == [("FID eval", "1.50")]
    assert own["table"].rows[-1].name == "Real training images"
    assert own["samples"] == 1000


def test_costs_include_the_measured_time(folder: Path) -> None:
    table = measured.view(measured.read(folder), TITLES)["costs"]
    texts = [[cell.text for cell in row.cells] for row in table.rows]
    assert len(texts) == 4
    assert texts[0] == ["64", "0.0281", "0.00180", "–", "50 on 2 × cpu"]
    assert texts[1][3] == "0.250"


def test_a_table_without_a_column_is_refused(folder: Path) -> None:
    (folder / "cost.csv").write_text("sampler,nfe\nbase,1\n")
    with pytest.raises(InputError, match=r"cost.csv is malformed: no column \['device'"):
        measured.read(folder)
