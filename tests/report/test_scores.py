"""Tables of scores: order, marks and texts."""

import math
from dataclasses import replace

import pytest

from sid2core.report import scores
from sid2core.report.read.inputs import Sampler
from sid2core.report.tables import Cell, Table

NAN = math.nan
BASE = Sampler("base", "Base", 64, 0, NAN, NAN, 100, 3, 2, 0.9, 64, 0.5, 32)
GUIDED = replace(BASE, sampler="interval", title="Guided", guidance_weight=1, logsnr_min=-3)
GUIDED = replace(GUIDED, logsnr_max=5, fd_eval=2, fd_train=2.5, agreement=0.99, gflops_image=45)
REAL = Sampler("train_images", "Real", *[NAN] * 4, 100, 1, 0, 1, NAN, NAN, NAN)


def marked(table: Table) -> dict[str, list[str]]:
    return {
        name: [row.name for row in table.rows if row.cells[i].best]
        for i, name in enumerate(table.columns)
        if any(row.cells[i].best for row in table.rows)
    }


def test_the_best_of_each_column_is_marked_but_never_the_baseline() -> None:
    table = scores.sampler_table([BASE, GUIDED], [REAL])
    assert marked(table) == {
        "fd eval": ["Guided"],
        "fd train": ["Base"],
        "class agreement": ["Guided"],
        "GFLOPs per image": ["Base"],
    }
    assert [row.kind for row in table.rows] == ["", "", "baseline"]


def test_further_baselines_are_never_the_best_either() -> None:
    copied = replace(REAL, sampler="copy_last", title="Copy", fd_eval=0.1)
    table = scores.sampler_table([BASE], [copied, REAL], "clip")
    assert marked(table)["fd eval"] == ["Base"]
    assert [row.kind for row in table.rows] == ["", "baseline", "baseline"]
    assert table.columns[-1].endswith(" per clip")


def test_an_unknown_value_is_a_dash_and_never_the_best() -> None:
    broken = replace(GUIDED, fd_eval=NAN, agreement=NAN)
    table = scores.sampler_table([BASE, broken], [REAL])
    cells = dict(zip(table.columns, table.rows[1].cells, strict=True))
    assert cells["fd eval"] == Cell("–")
    assert cells["class agreement"] == Cell("–")
    assert marked(table)["fd eval"] == ["Base"]


def test_data_without_classes_have_no_column_of_agreement() -> None:
    rows = [replace(one, agreement=NAN) for one in (BASE, GUIDED, REAL)]
    assert "class agreement" not in scores.sampler_table(rows[:2], rows[2:]).columns
    assert "class agreement" in scores.sampler_table([BASE], [REAL]).columns


def test_the_distance_over_that_of_real_images_is_shown_where_it_is_known() -> None:
    assert scores.RATIO not in scores.sampler_table([BASE], [REAL]).columns
    rows = [replace(one, fd_eval_ratio=one.fd_eval) for one in (BASE, REAL)]
    table = scores.sampler_table(rows[:1], rows[1:])
    cells = [dict(zip(table.columns, row.cells, strict=True)) for row in table.rows]
    assert [row[scores.RATIO].text for row in cells] == ["3.00", "1.00"]


def test_lost_modes_are_shown_beside_the_agreement() -> None:
    assert "recall" not in scores.sampler_table([BASE], [REAL]).columns
    rows = [replace(BASE, precision=0.9, recall=0.2, coverage=0.4), replace(GUIDED, recall=0.7)]
    table = scores.sampler_table(rows, [replace(REAL, recall=0.97)])
    place = table.columns.index("class agreement")
    assert table.columns[place + 1 : place + 4] == ("precision", "recall", "coverage")
    assert marked(table)["recall"] == ["Guided"]


def test_equal_scores_are_both_best() -> None:
    table = scores.sampler_table([BASE, replace(BASE, title="Again")], [REAL])
    assert marked(table)["fd eval"] == ["Base", "Again"]


def test_costs_take_a_larger_unit() -> None:
    heavy = replace(BASE, gflops_image=10444.8)
    table = scores.sampler_table([heavy], [REAL])
    assert (
        dict(zip(table.columns, table.rows[0].cells, strict=True))["TFLOPs per image"].text
        == "10.4"
    )


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (BASE, "no guidance"),
        (GUIDED, "guidance 1 on (−3, 5)"),
        (replace(GUIDED, logsnr_min=NAN, logsnr_max=NAN), "guidance 1 everywhere"),
        (replace(BASE, student=True, guidance_weight=NAN), "no guidance of its own"),
        (replace(GUIDED, student=True), "guidance 1 on (−3, 5) inside"),
    ],
)
def test_guidance_as_text(sampler: Sampler, words: str) -> None:
    assert scores.guidance_of(sampler) == words


def test_lowest_ignores_unmeasured_samplers() -> None:
    assert scores.lowest([replace(BASE, fd_eval=NAN), GUIDED, BASE]) is GUIDED
    assert scores.lowest([replace(BASE, fd_eval=NAN)]) is None


def test_distilled_models_share_columns() -> None:
    table = scores.distilled_table({"teacher": {"fd_train_512": 2.0}, "student_8": {"loss": 1.0}})
    assert table is not None
    assert table.columns == ("fd train, 512 samples", "loss")
    assert [[cell.text for cell in row.cells] for row in table.rows] == [
        ["2.00", "–"],
        ["–", "1.00"],
    ]
    assert scores.distilled_table({}) is None


def test_accuracies_carry_their_counts() -> None:
    metrics = {"accuracy_eval_270": 0.98, "loss": 0.1}
    assert scores.accuracies(metrics) == [("eval", 270, 0.98)]
