"""Teacher and students side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from sid2core.report import page, students
from sid2core.report.read import inputs
from tests.report import synthetic
from tests.report.test_images import decode
from tests.report.test_page import Document, uris


def with_students(*steps: int) -> pd.DataFrame:
    """The samplers with the best guidance of the search and these students."""
    table = synthetic.samplers()
    of = table.set_index("sampler", drop=False)
    found = [of.loc[["base", "interval"]].replace({"sampler": {"interval": "searched"}})]
    for one in steps:
        row = of.loc[["student_8"]].assign(sampler=f"student_{one}", steps=one, nfe=one)
        found.append(row.assign(title=f"student of {one} steps", fd_eval=8.0 / one))
    return pd.concat([*found, of.loc[["train_images"]]], ignore_index=True)


def read(root: Path, *steps: int, **changes: object) -> inputs.Inputs:
    world = replace(synthetic.World(), samplers=with_students(*steps), **changes)
    params = synthetic.params()
    params = params.model_copy(
        update={"distill": params.distill.model_copy(update={"steps": [*steps]})}
    )
    return inputs.read(params, synthetic.write(root, world))


def test_columns_are_the_teacher_and_its_students_by_steps(tmp_path: Path) -> None:
    found = read(tmp_path, 1, 8, 4, 2)
    document = Document(page.build(found))
    words = document.words("students")
    titles = ["teacher: Guidance in an interval", *(f"student of {n} steps" for n in (8, 4, 2, 1))]
    places = [words.index(one) for one in titles]
    assert places == sorted(places)
    assert "1 evaluations, fd eval 8.00" in words
    images = uris(document, "students")
    assert len(images) == 10 * 5
    names = ["searched", "student_8", "student_4", "student_2", "student_1"]
    for index, uri in enumerate(images):
        cell = found.grids[names[index % 5]][index // 5, 0]
        np.testing.assert_array_equal(decode(uri)[..., :1], cell)
    chart = document.words("samplers")
    assert "students" in chart


def test_a_best_setting_without_guidance_is_the_base_model(tmp_path: Path) -> None:
    found = read(tmp_path, 4)
    distill = found.params.distill.model_copy(update={"teacher": "best"})
    best = replace(found.search.best, weight=0.0)
    found = replace(
        found,
        params=found.params.model_copy(update={"distill": distill}),
        search=replace(found.search, best=best),
    )
    shown = students.view(found, found.class_names, np.arange(2))
    assert shown is not None
    assert shown["models"][0]["title"] == "teacher: Base"


def test_few_conditions_have_several_seeds(tmp_path: Path) -> None:
    found = read(tmp_path, 4, class_names=("one", "two"))
    shown = students.view(found, found.class_names, np.arange(2))
    assert shown is not None
    names = [f"{name}, seed {seed}" for name in ("one", "two") for seed in range(4)]
    assert [row["name"] for row in shown["rows"]] == names


def test_without_students_there_is_no_section(tmp_path: Path) -> None:
    table = synthetic.samplers()
    table = table[~table.sampler.str.startswith("student")]
    root = synthetic.write(tmp_path, replace(synthetic.World(), samplers=table))
    found = inputs.read(synthetic.params(), root)
    assert students.view(found, found.class_names, np.arange(10)) is None
    assert 'id="students"' not in page.build(found)
