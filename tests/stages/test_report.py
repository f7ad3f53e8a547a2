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


def test_samples_far_from_real_images_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    table = synthetic.samplers()
    table.loc[0, "fd_eval"] = 1000 * table["fd_eval"].iloc[-1]
    synthetic.write(tmp_path, synthetic.World(samplers=table))
    monkeypatch.chdir(tmp_path)
    report.main(synthetic.params())
    assert "\nwarning: samples are further from real images" in capsys.readouterr().out
    assert "<strong>Warning.</strong> Samples are further" in Path("reports/index.html").read_text()


@pytest.mark.parametrize(
    ("name", "stage"), [("train/curve.csv", "train"), ("analysis/figure12.csv", "analysis")]
)
def test_a_failure_leaves_the_earlier_page(root: Path, name: str, stage: str) -> None:
    (root / "reports/index.html").write_text("earlier")
    (root / "reports" / name).unlink()
    with pytest.raises(InputError, match=f"dvc repro {stage}"):
        report.main(synthetic.params())
    assert (root / "reports/index.html").read_text() == "earlier"
