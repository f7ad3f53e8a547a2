import json

import numpy as np
import pandas as pd
import pytest

from sid2core import config
from sid2core.config import ParamsError
from sid2core.diffusion.lowbit import eps_error
from sid2core.pipeline import artifact
from sid2core.pipeline.artifact import ArtifactError
from stages import analysis
from tests import tiny

FEW = {"points": 53}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project's root with all the stage reads of ``prepare``: the shape of its images."""
    monkeypatch.chdir(tmp_path)
    with artifact.create("prepare", {}) as draft:
        draft.metadata |= {"shape": [8, 8, 1]}
    return tmp_path


@pytest.fixture
def tables(folder):
    analysis.main(tiny.params(analysis=FEW))
    return {path.stem: pd.read_csv(path) for path in analysis.REPORTS.glob("*.csv")}


def test_figure11_is_the_error_of_each_precision(tables):
    table = tables["figure11"]
    assert list(table) == ["logsnr", "bits", "eps_error"]
    assert table["bits"].unique().tolist() == list(range(1, 9))
    levels = np.linspace(-10, 16, 53)
    for bits, part in table.groupby("bits"):
        np.testing.assert_allclose(part["logsnr"], levels)
        # Seven decimals are written.
        np.testing.assert_allclose(part["eps_error"], eps_error(bits, levels), rtol=0, atol=1e-7)


def test_metrics_are_the_gaps_of_figure12(tables):
    assert list(tables["figure12"]) == ["logsnr", "curve", "value"]
    wide = tables["figure12"].pivot(index="logsnr", columns="curve", values="value")
    assert set(wide) == {"sigmoid_weighted", "mixture"}
    gap = (wide["sigmoid_weighted"] - wide["mixture"]).abs()
    metrics = json.loads((analysis.REPORTS / "metrics.json").read_text())
    assert set(metrics) == {
        "figure12_gap_max",
        "figure12_gap_max_logsnr",
        "figure12_gap_mean",
    }
    assert metrics["figure12_gap_max"] == pytest.approx(gap.max(), abs=1e-5)
    assert metrics["figure12_gap_max_logsnr"] == gap.idxmax()
    assert metrics["figure12_gap_mean"] == pytest.approx(gap.mean(), abs=1e-5)
    # Similar, as the paper finds: apart only where 8 bits fade out.
    assert 9 < metrics["figure12_gap_max_logsnr"] < 11
    assert metrics["figure12_gap_mean"] < 0.05


def test_the_weighting_is_that_of_the_parameters(tables):
    table = tables["weighting"]
    assert list(table) == ["t", "logsnr", "curve", "value"]
    assert (table["t"].min(), table["t"].max()) == (0.0, 1.0)
    diffusion = tiny.params().diffusion
    part = table[table["curve"] == "weight"]
    expected = 1 / (1 + np.exp(part["logsnr"] - diffusion.loss.settings.bias))
    np.testing.assert_allclose(part["value"], expected, rtol=0, atol=1e-6)
    # At the noise resolutions of 8 pixels the schedule of an 8 pixel image is not shifted.
    schedule = diffusion.schedule.settings
    ends = [schedule.logsnr_min, schedule.logsnr_max]
    np.testing.assert_allclose(part["logsnr"].iloc[[0, -1]], ends)


def test_the_schedule_is_that_of_the_images_height(folder):
    with artifact.create("prepare", {}) as draft:
        draft.metadata |= {"shape": [16, 32, 64, 3]}  # frames, height, width, channels
    analysis.main(tiny.params(analysis=FEW))
    table = pd.read_csv(analysis.REPORTS / "weighting.csv")
    # noise_res_low is 8: shift(8) = 2 log(8 / 32).
    assert table["logsnr"].min() == pytest.approx(-10 + 2 * np.log(8 / 32), abs=1e-4)


def test_other_parameters_give_other_figures(tables):
    change = {"bits": [2, 3], "mixture_bits": [8], "mixture_proportions": [3.0], "points": 27}
    params = tiny.params(analysis=change | {"logsnr_max": 3.0, "sigmoid_bias": 30.0})
    before = json.loads((analysis.REPORTS / "metrics.json").read_text())
    analysis.main(params)
    table = pd.read_csv(analysis.REPORTS / "figure11.csv")
    assert table["bits"].unique().tolist() == [2, 3]
    assert table["logsnr"].max() == 3.0
    metrics = json.loads((analysis.REPORTS / "metrics.json").read_text())
    assert metrics["figure12_gap_max"] == 0.0 < before["figure12_gap_max"]


def test_a_second_run_gives_the_same_bytes(tables):
    names = sorted(path.name for path in analysis.REPORTS.iterdir())
    assert names == ["figure11.csv", "figure12.csv", "metrics.json", "weighting.csv"]
    before = [(analysis.REPORTS / name).read_bytes() for name in names]
    analysis.main(tiny.params(analysis=FEW))
    assert [(analysis.REPORTS / name).read_bytes() for name in names] == before


def test_without_prepare_the_cure_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").touch()
    with pytest.raises(ArtifactError, match="dvc repro prepare"):
        analysis.main(tiny.params())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bits": []}, "analysis.bits: found"),
        ({"bits": [1, 9]}, "analysis.bits.1: found 9"),
        ({"bits": [0]}, "analysis.bits.0: found 0"),
        ({"bits": [1, 2.0]}, r"analysis.bits.1: found 2.0 \(float\); expected list of integer"),
        ({"bits": [3, 3]}, r"analysis: bits repeats an entry: \[3, 3\]"),
        ({"points": 1}, "analysis.points: found 1"),
        ({"points": "many"}, "analysis.points: found 'many'"),
        ({"logsnr_min": 16.0}, "analysis: logsnr_min 16.0 must be below logsnr_max 16.0"),
        ({"logsnr_max": float("inf")}, "analysis.logsnr_max: found inf"),
        ({"sigmoid_bias": float("nan")}, "analysis.sigmoid_bias: found nan"),
        ({"mixture_bits": [8, 7, 6, 6]}, "analysis: mixture_bits repeats an entry"),
        (
            {"mixture_bits": [8, 7]},
            "analysis: mixture_proportions has 4 entries; 2 mixture_bits need 2",
        ),
        ({"mixture_proportions": [1.0, 4.0, 4.0, 0.0]}, "analysis.mixture_proportions.3: found 0"),
        ({"sigmoid_bais": 1.0}, "unknown key; the nearest known one is analysis.sigmoid_bias"),
    ],
)
def test_parameters_that_make_no_figure_are_refused(change, words):
    with pytest.raises(ParamsError, match=words):
        config.parse(tiny.raw(analysis=change))
