"""The grid of prompts: noise, condition and guidance of each cell, and what is drawn again."""

from dataclasses import replace

import numpy as np
import pytest

from sid2core import rng
from sid2core.conditioning import Condition
from sid2core.diffusion.guidance import (
    ConstantGuidance,
    IntervalGuidance,
    Negative,
    NoGuidance,
)
from sid2core.evaluation import drawing, measuring, prompt_grid, prompts
from sid2core.evaluation.prompts import read
from sid2core.evaluation.store import Store
from sid2core.inference.generator import Generator
from sid2core.pipeline import artifact
from tests.evaluation.samplers import SEED, count_images, run, samples, spec

WORDS = ("red", "green", "blue")
GUIDED = replace(spec(IntervalGuidance(0.5, -1.0, 9.0)), name="searched")
STUDENT = replace(spec(steps=2), name="student_2")


def conditions_of(texts):
    """A text that is a word stands for the class of this index."""
    return Condition(label=np.array([WORDS.index(one) for one in texts], np.int32))


def grids(lines, columns=2):
    return prompt_grid.grids(GUIDED, [STUDENT], read(lines), conditions_of, columns, SEED)


def draw(made, where):
    drawing.draw_and_measure([one for grid in made for one in grid.sets], where, measuring.quality)
    return {one.name: one.images(where) for one in made}


def by_hand(one, word, seeds, negative=None):
    generator = Generator(one.method, one.params, 2)
    condition = conditions_of([word] * len(seeds))
    other = None if negative is None else conditions_of([negative] * len(seeds))
    stream = rng.key(SEED, "evaluate/prompts")
    return generator.images(stream, np.array(seeds), condition, other)


def test_every_cell_is_drawn_as_its_row_says(tmp_path):
    lines = ["red", "green --d 7", "red --s 2 --l 2 --n blue", "green --l 0"]
    found = draw(grids(lines), run(tmp_path))

    def guided(guidance, steps=3):
        return replace(GUIDED, method=replace(GUIDED.method, guidance=guidance, steps=steps))

    against = IntervalGuidance(2.0, -1.0, 9.0, Negative.PROMPT)
    expected = [
        by_hand(GUIDED, "red", [0, 1]),
        by_hand(GUIDED, "green", [7, 8]),
        by_hand(guided(against, 2), "red", [0, 1], "blue"),
        by_hand(guided(NoGuidance()), "green", [0, 1]),
    ]
    assert (found["searched"] == np.stack(expected)).all()
    students = [
        by_hand(STUDENT, word, seeds)
        for word, seeds in (("red", [0, 1]), ("green", [7, 8]), ("red", [0, 1]), ("green", [0, 1]))
    ]
    assert (found["student_2"] == np.stack(students)).all()


def test_a_model_without_guidance_takes_that_of_a_row(tmp_path):
    base = replace(GUIDED, method=replace(GUIDED.method, guidance=NoGuidance()))
    (made,) = prompt_grid.grids(base, [], read(["red --l 1", "red"]), conditions_of, 1, SEED)
    weights = {one.spec.method.guidance for one in made.sets}
    assert weights == {ConstantGuidance(1.0), NoGuidance()}


@pytest.fixture
def made(monkeypatch):
    images, calls = Generator.images, count_images(monkeypatch)

    def counted(self, stream, indices, condition, negative=None):
        calls.append(len(indices))
        return images(self, stream, indices, condition, negative)

    monkeypatch.setattr(Generator, "images", counted)
    return calls


def test_changed_prompts_draw_the_grid_alone_and_of_it_what_changed(tmp_path, made):
    def where(name):
        (tmp_path / name).mkdir()
        store = Store(tmp_path / "drawn", tmp_path / name, "code", 10**9)
        return replace(run(tmp_path / name), store=store)

    def everything(lines, name):
        parts = [samples(), *(one for grid in grids(lines) for one in grid.sets)]
        drawing.draw_and_measure(parts, where(name), measuring.quality)

    everything(["red", "green"], "first")
    made.clear()
    everything(["red", "green"], "second")
    assert made == []
    everything(["red", "blue"], "third")
    assert made == [4, 4]
    made.clear()
    everything(["red", "blue", "red --l 2 --n green"], "fourth")
    assert made == [2, 2]
    made.clear()
    everything(["red", "blue", "red --l 2 --n blue"], "fifth")
    assert made == [2]


def test_the_artifact_holds_images_and_rows(tmp_path):
    made, where = grids(["red --d 5", "green --l 2"]), run(tmp_path)
    images = draw(made, where)
    with artifact.create("evaluate", {}, root=tmp_path) as draft:
        prompt_grid.save(draft, made, where)
    saved = artifact.load("evaluate", root=tmp_path)
    with np.load(saved.path(prompts.FILE)) as arrays:
        assert {name: arrays[name].tobytes() for name in arrays} == {
            name: one.tobytes() for name, one in images.items()
        }
    rows = [(one["text"], one["seed"], one["guidance"]) for one in saved.metadata["prompts"]]
    assert rows == [("red", 5, None), ("green", 0, 2.0)]
