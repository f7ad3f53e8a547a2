import json
import math

import pytest

from sid2core.conditioning import ConditionSpec
from sid2core.diffusion.guidance import ConstantGuidance, IntervalGuidance, NoGuidance
from sid2core.inference import guidance_search
from sid2core.inference.guidance_search import Cell, Score
from sid2core.metrics.quality import Quality
from tests import tiny

CLASSES = ConditionSpec.of_classes(10)


def settings(**changes):
    return tiny.params(guidance_search=changes).guidance_search


def cell_score(cell, mean, std=0.1):
    return Score(
        cell.weight,
        cell.logsnr_min,
        cell.logsnr_max,
        cell.interval,
        mean,
        std,
        0.5,
        8,
        3,
        100,
        "fd",
    )


def test_the_grid_holds_no_guidance_once_and_every_weight_everywhere():
    cells = guidance_search.grid(
        settings(weights=[0.5, 2.0], intervals=[[-3.0, 5.0], [0.0, 5.0]]), CLASSES
    )
    assert cells == [
        Cell(0.0),
        Cell(0.5),
        Cell(2.0),
        Cell(0.5, -3.0, 5.0),
        Cell(2.0, -3.0, 5.0),
        Cell(0.5, 0.0, 5.0),
        Cell(2.0, 0.0, 5.0),
    ]


def test_the_whole_range_is_searched_even_without_intervals():
    assert guidance_search.grid(settings(weights=[1.0], intervals=[]), CLASSES) == [
        Cell(0.0),
        Cell(1.0),
    ]


@pytest.mark.parametrize(
    ("cell", "guidance", "words"),
    [
        (Cell(0.0), NoGuidance(), "whole range"),
        (Cell(0.0, -3.0, 5.0), NoGuidance(), "(-3, 5)"),
        (Cell(1.5), ConstantGuidance(1.5), "whole range"),
        (Cell(1.5, -3.0, 5.5), IntervalGuidance(1.5, -3.0, 5.5), "(-3, 5.5)"),
        (Cell(1.5, 0.0, 5.0), IntervalGuidance(1.5, 0.0, 5.0), "(0, 5)"),
    ],
)
def test_a_cell_is_the_guidance_it_names(cell, guidance, words):
    assert cell.guidance == guidance
    assert cell.interval == words


def test_a_score_is_mean_and_deviation_over_the_repeats(unchecked):
    repeats = [
        Quality(50, distance, 9.0, agreement, "fid")
        for distance, agreement in ((3.0, 0.5), (4.0, 0.6), (8.0, 0.7))
    ]
    found = guidance_search.score(Cell(1.0, -3.0, 5.0), 12, repeats)
    # mean 5, squares of deviations 4 + 1 + 9, over n − 1.
    assert found == Score(
        1.0, -3.0, 5.0, "(-3, 5)", 5.0, pytest.approx(math.sqrt(7), abs=1e-6), 0.6, 12, 3, 50, "fid"
    )


def test_the_eval_split_has_no_say():
    first, other = (
        guidance_search.score(Cell(1.0), 8, [Quality(50, 3.0, eval_, 0.5, "fd")] * 2)
        for eval_ in (1.0, 100.0)
    )
    assert first == other


@pytest.fixture
def cells():
    return guidance_search.grid(settings(weights=[0.5, 2.0], intervals=[[-3.0, 5.0]]), CLASSES)


def test_the_verdict_names_the_nearest_two_and_the_noise_between_seeds(cells):
    scores = [
        cell_score(cell, mean, std)
        for cell, mean, std in zip(
            cells, [5.0, 4.0, 9.0, 2.0, 3.0], [0.1, 0.2, 0.3, 0.4, 0.5], strict=True
        )
    ]
    verdict = guidance_search.verdict(scores)
    assert verdict["best"]["weight"] == 0.5
    assert (verdict["best"]["logsnr_min"], verdict["best"]["logsnr_max"]) == (-3.0, 5.0)
    assert verdict["runner_up"]["fd_train_mean"] == 3.0
    assert verdict["guided"] == verdict["best"]
    pooled = math.sqrt((0.01 + 0.04 + 0.09 + 0.16 + 0.25) / 5)
    assert verdict["noise"] == pytest.approx(pooled, abs=1e-6)
    assert (verdict["samples"], verdict["repeats"]) == (100, 3)


def test_of_equals_the_first_of_the_grid_is_best(cells):
    verdict = guidance_search.verdict([cell_score(cell, 2.0) for cell in cells])
    assert verdict["best"]["weight"] == 0.0
    assert verdict["runner_up"]["interval"] == "whole range"
    assert verdict["guided"] == verdict["runner_up"]


@pytest.mark.parametrize("place", range(5))
def test_what_is_chosen_survives_the_file(cells, place):
    means = [5.0] * 5
    means[place] = 1.0
    scores = [cell_score(cell, mean) for cell, mean in zip(cells, means, strict=True)]
    verdict = json.loads(json.dumps(guidance_search.verdict(scores)))
    expected = cells[place or 1]  # the first has no guidance, of the others all are equal
    assert guidance_search.chosen(verdict) == expected
    assert guidance_search.chosen(verdict).guidance == expected.guidance


def test_without_conditions_there_is_nothing_to_search():
    assert guidance_search.grid(settings(), ConditionSpec()) == [Cell(0.0)]


def test_a_grid_of_one_cell_has_neither_a_runner_up_nor_guidance():
    verdict = guidance_search.verdict([cell_score(Cell(0.0), 2.0)])
    assert verdict["best"]["weight"] == 0.0
    assert (verdict["runner_up"], verdict["guided"]) == (None, None)
    assert guidance_search.chosen(verdict) == Cell(0.0)
    assert guidance_search.metrics(verdict) == {
        "weight": 0.0,
        "logsnr_min": None,
        "logsnr_max": None,
        "fd_train_100": 2.0,
        "fd_train_100_noise": 0.1,
    }


def test_images_without_classes_have_no_agreement():
    repeats = [Quality(50, distance, 9.0, None, "fd") for distance in (3.0, 4.0)]
    assert guidance_search.score(Cell(0.0), 8, repeats).agreement is None
