"""The report stage: files in, one file out."""

from pathlib import Path

import pytest

from sid2core.report.read.inputs import InputError
from stages import report
from tests.report import synthetic


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    synthetic.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_writes_the_page_and_names_it(root: Path, capsys: pytest.CaptureFixture) -> None:
    report.main(synthetic.params())
    first = (root / "reports/index.html").read_bytes()
    assert capsys.readouterr().out == "reports/index.html\n"
    assert first.startswith(b"<!DOCTYPE html>")
    report.main(synthetic.params())
    assert (root / "reports/index.html").read_bytes() == first


@pytest.mark.parametrize(
    ("name", "stage"), [("train/curve.csv", "train"), ("analysis/figure12.csv", "analysis")]
)
def test_a_failure_leaves_the_earlier_page(root: Path, name: str, stage: str) -> None:
    (root / "reports/index.html").write_text("earlier")
    (root / "reports" / name).unlink()
    with pytest.raises(InputError, match=f"dvc repro {stage}"):
        report.main(synthetic.params())
    assert (root / "reports/index.html").read_text() == "earlier"
