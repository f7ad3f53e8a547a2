"""The guidance search on the page: the race, heat maps and the table."""

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from matplotlib.axes import Axes

from sid2core.report import search
from sid2core.report.charts import svg
from sid2core.report.read.search_files import Search, Setting
from tests.report.test_figures import texts

NAN = math.nan


def setting(weight: float, fd: float, low: float = NAN, **changes: object) -> Setting:
    kept, excess = fd < 1.1, fd - 1.0
    made = Setting(
        *(
            "usual",
            "unconditional",
            "ddpm logvar_fraction=0.3",
            32,
            weight,
            low,
            NAN if math.isnan(low) else 5.0,
        ),
        *(fd, fd - 0.1, fd + 0.1, excess, excess - 0.1, excess + 0.1, 400, 0.9, 64, kept),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def found(*settings: Setting) -> Search:
    guided = next((one for one in settings if one.weight > 0), None)
    return Search(settings, settings[0], guided, 1234, 0.9, "fd")


ROWS = (setting(0, 1.0), setting(1, 1.05), setting(2, 3.0), setting(1, 2.0, -3.0))


def test_the_table_begins_with_what_stayed() -> None:
    table = search.table(found(*ROWS))
    assert [row.name for row in table.rows] == [
        "no guidance",
        "weight 1 on whole range",
        "weight 1 on (\u22123, 5)",
        "weight 2 on whole range",
    ]
    assert [row.cells[-1].text for row in table.rows] == [
        "chosen",
        "best guidance, not distinguishable",
        "",
        "",
    ]
    assert [row.kind for row in table.rows] == ["best", "", "", ""]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "weight 1 on whole range"),
        ({"negative": "step 400"}, "weight 1 on whole range away from step 400"),
        ({"average": "power 0.1"}, "weight 1 on whole range, average power 0.1"),
        ({"weight": 0.0, "average": "power 0.1"}, "no guidance, average power 0.1"),
    ],
)
def test_a_setting_in_words(changes: dict[str, object], words: str) -> None:
    assert search.words(replace(setting(1, 1.0), **changes)) == words  # type: ignore[arg-type]


def test_sampler_and_steps_are_in_words_where_they_vary() -> None:
    rows = (*ROWS, setting(1, 1.01, sampler="heun", steps=8))
    names = [row.name for row in search.table(found(*rows)).rows]
    assert "weight 1 on whole range, heun, 8 steps" in names
    assert "no guidance, ddpm logvar_fraction=0.3, 32 steps" in names
    drawn = search.view(found(*rows))["heat_maps"]
    assert len(drawn) == 6, "of every two of weight, interval, sampler and steps"


def test_the_race_shows_every_setting_with_its_samples() -> None:
    shown = texts(search.race(found(*ROWS)))
    assert {"no guidance  (400)", "weight 2 on whole range  (400)"} <= set(shown)


def test_heat_maps_are_of_axes_with_several_values() -> None:
    maps = search.view(found(*ROWS))["heat_maps"]
    assert len(maps) == 1, "weight and interval"
    assert {"0.0500", "2.00", "1.00"} <= set(texts(maps[0]))
    more = (*ROWS, setting(1, 1.2, negative="step 400"))
    assert len(search.view(found(*more))["heat_maps"]) == 3


def test_lower_scores_have_stronger_colours() -> None:
    (drawn,) = search.view(found(*ROWS))["heat_maps"]
    strengths = [float(v) for v in re.findall(r"--series-1\); (?:fill-)?opacity: ([\d.]+)", drawn)]
    assert len(strengths) == 4
    assert strengths[0] == max(strengths)
    assert strengths[2] == min(strengths)


def test_one_setting_has_neither_race_nor_map() -> None:
    view = search.view(found(setting(0, 1.0)))
    assert view["race"] is None
    assert view["heat_maps"] == []


def test_a_setting_without_a_score_is_drawn() -> None:
    rows = (setting(0, 1.0), setting(1, NAN), setting(2, NAN, -3.0))
    assert "\u2013" in texts(search.view(found(*rows))["heat_maps"][0])


def _many() -> Search:
    """Settings over all axes, with the longest names that occur."""
    folder = "/data/models/negatives/small-model-2026-01-02/artifacts/train"
    rows = [
        setting(1, 1.0 + number / 100, sampler=sampler, steps=steps, negative=name, average=average)
        for number, (sampler, steps, name, average) in enumerate(
            itertools.product(
                ("ddpm logvar_fraction=0.3", "addim eta=0.1", "dpm_solver", "heun"),
                (4.0, 32.0),
                ("unconditional", "train_negative", "step 400000", folder),
                ("usual", "power 0.1"),
            )
        )
    ]
    return found(setting(0, 1.0), *rows)


def test_long_names_lie_inside_the_figures_and_on_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    render, checked = svg.render, list[str]()

    def watched(name: str, title: str, draw: Callable[[Axes], None], size: tuple[float, float]):
        def then_measured(axes: Axes) -> None:
            draw(axes)
            figure = axes.figure
            figure.canvas.draw()
            inside = figure.bbox.padded(1)
            for axis in (axes.xaxis, axes.yaxis):
                low, high = sorted(axis.get_view_interval())
                shown = [
                    label
                    for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
                    if low <= place <= high
                ]
                boxes = [one.get_window_extent() for one in shown]
                assert all(box.x0 >= inside.x0 and box.x1 <= inside.x1 for box in boxes), name
                assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes)), name
            checked.append(name)

        return render(name, title, then_measured, size)

    monkeypatch.setattr(search.svg, "render", watched)
    search.view(_many())
    assert len(checked) == 1 + 10, "the race, and a map for every two of five axes"
    assert "guidance-steps-sampler" in checked, "the long names are beside the rows"
