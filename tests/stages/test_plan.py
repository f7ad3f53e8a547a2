"""The plan stage: from the prepared data's shape to tables and metrics."""

import json

import pandas as pd
import pytest

from stages import plan, prepare, text
from tests import tiny


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prepare.main(tiny.params())
        text.main(tiny.params())
        plan.main(tiny.params())
    return folder / "reports/plan"


def test_the_tables_are_those_that_the_page_reads(reports):
    levels = pd.read_csv(reports / "levels.csv")
    assert list(levels["kind"]) == ["res", "transformer"]
    assert list(levels["grid"]) == ["4x4", "2x2"]
    terms = pd.read_csv(reports / "terms.csv")
    assert terms["term"].iloc[-1] == "XLA's count"
    assert terms["gflops"].iloc[:-1].sum() == pytest.approx(terms["gflops"].iloc[-1], rel=1e-4)
    remat = pd.read_csv(reports / "remat.csv")
    assert list(remat["remat"]) == ["none", "products", "blocks", "offload", "full"]


def test_the_metrics_are_flat_and_agree(reports):
    metrics = json.loads((reports / "metrics.json").read_text())
    levels = pd.read_csv(reports / "levels.csv")
    assert metrics["gflops_forward"] == pytest.approx(levels["gflops"].sum(), rel=1e-4)
    assert metrics["state_mib"] == pytest.approx(16 * metrics["parameters"] / 2**20, abs=1e-3)
    expected = metrics["gflops_forward"] * 3 * 30 * 16 / 1e12
    assert metrics["training_zettaflops"] == pytest.approx(expected, rel=1e-4)
