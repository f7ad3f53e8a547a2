"""Drawn images are found again by what produced them, and by nothing else."""

import os
from dataclasses import replace

import numpy as np
import pytest

from sid2core.conditioning import Condition
from sid2core.diffusion.clipping import DynamicClip
from sid2core.diffusion.guidance import ConstantGuidance, IntervalGuidance, NoGuidance
from sid2core.diffusion.samplers import DDIM
from sid2core.evaluation import drawing, measuring, sample_sets, store
from sid2core.evaluation.store import Store
from tests.evaluation.samplers import (
    CONDITION,
    SEED,
    baseline,
    count_images,
    grid,
    run,
    samples,
    spec,
    stopped_after,
)
from tests.metrics.evaluators import PROVENANCE


@pytest.fixture
def made(monkeypatch):
    return count_images(monkeypatch)


@pytest.fixture(autouse=True)
def _no_fresh(monkeypatch):
    monkeypatch.delenv("SID2_FRESH", raising=False)


def work(tmp_path, name="first", program="code", limit=10**9):
    """A run whose work folder is ``name``."""
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    return replace(run(folder), store=Store(tmp_path / "drawn", folder, program, limit))


def draw(sets, where):
    measured = drawing.draw_and_measure(sets, where, measuring.quality)
    return [measured, *(drawing.read(one, where).images.tobytes() for one in sets)]


def places(tmp_path):
    return sorted(one.name for one in (tmp_path / "drawn").iterdir() if one.name != "users")


def test_a_later_run_draws_nothing_again(tmp_path, made):
    sets = [samples(), grid(2), baseline(8)]
    expected = draw(sets, work(tmp_path))
    assert expected == draw(sets, run(tmp_path / "alone"))
    made.clear()
    assert draw(sets, work(tmp_path, "second")) == expected
    assert made == []


def test_a_changed_guidance_draws_its_own_samples_alone(tmp_path, made):
    draw([samples(), samples(spec(ConstantGuidance(0.5)))], work(tmp_path))
    made.clear()
    draw([samples(), samples(spec(ConstantGuidance(0.7)))], work(tmp_path, "second"))
    assert made == [4, 4, 2]


OTHERS = {
    "weights": lambda: samples(spec(scale=0.5)),
    "guidance": lambda: samples(spec(ConstantGuidance(0.5))),
    "interval": lambda: samples(spec(IntervalGuidance(0.5, -1.0, 1.0))),
    "steps": lambda: samples(spec(steps=4)),
    "sampler": lambda: samples(
        replace(spec(), method=replace(spec().method, sampler=DDIM(), guidance=NoGuidance()))
    ),
    "clip": lambda: samples(replace(spec(), method=replace(spec().method, clip_x=DynamicClip()))),
    "seed": lambda: sample_sets.evaluated(spec(), CONDITION, 10, 10, SEED + 1),
    "condition": lambda: sample_sets.evaluated(
        spec(), Condition(label=2 - CONDITION.label), 10, 10, SEED
    ),
    "kept": lambda: samples(keep=0),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_whatever_changes_an_image_draws_it_again(tmp_path, made, other):
    draw([samples()], work(tmp_path))
    made.clear()
    draw([other()], work(tmp_path, "second"))
    assert made == [4, 4, 2]


def test_other_code_and_another_extractor_draw_again(tmp_path, made, monkeypatch):
    draw([samples()], work(tmp_path))
    made.clear()
    draw([samples()], work(tmp_path, "second", program="other"))
    assert made == [4, 4, 2]
    made.clear()
    monkeypatch.setitem(PROVENANCE, "extractor_digest", "others")
    draw([samples()], work(tmp_path, "third"))
    assert made == [4, 4, 2]


def test_samplers_that_are_the_same_are_drawn_once(tmp_path, made):
    again = replace(spec(), name="again")
    draw([samples(), samples(again)], work(tmp_path))
    assert made == [4, 4, 2]


def test_more_samples_draw_the_further_ones(tmp_path, made):
    draw([sample_sets.evaluated(spec(), CONDITION, 8, 8, SEED)], work(tmp_path))
    made.clear()
    draw([sample_sets.evaluated(spec(), CONDITION, 10, 8, SEED)], work(tmp_path, "second"))
    assert made == [2]


@pytest.mark.parametrize("after", range(4))
def test_after_a_kill_the_same_bytes(tmp_path, monkeypatch, made, after):
    expected = draw([samples(), grid(2)], work(tmp_path))
    with stopped_after(monkeypatch, after):
        draw([samples(spec(steps=4)), grid(2, spec(steps=4))], work(tmp_path, "killed"))
    made.clear()
    draw([samples(spec(steps=4)), grid(2, spec(steps=4))], work(tmp_path, "killed"))
    assert made == [4, 4, 2, 4, 2][after:]
    assert draw([samples(), grid(2)], work(tmp_path)) == expected


def test_a_damaged_chunk_is_drawn_again(tmp_path, made):
    expected = draw([samples()], work(tmp_path))
    (chunk, *_) = sorted((tmp_path / "drawn").glob("*/chunk-00000004-*.npz"))
    chunk.write_bytes(bytes(chunk.stat().st_size))
    made.clear()
    assert draw([samples()], work(tmp_path, "second")) == expected
    assert made == [4]


def test_of_what_no_work_needs_the_oldest_is_removed_beyond_the_limit(tmp_path):
    folders = []
    for index in range(3):
        draw([samples(spec(steps=2 + index))], work(tmp_path, f"work-{index}"))
        (new,) = set(places(tmp_path)) - set(folders)
        folders.append(new)
        os.utime(tmp_path / "drawn" / new, (index, index))
    (tmp_path / "work-0").rename(tmp_path / "gone-0")
    (tmp_path / "work-2").rename(tmp_path / "gone-2")
    size = sum(path.stat().st_size for path in (tmp_path / "drawn").glob("*/*.npz")) // 3
    draw([samples(spec(steps=3))], work(tmp_path, "work-1", limit=5 * size // 2))
    assert places(tmp_path) == sorted(folders[1:])
    draw([samples(spec(steps=3))], work(tmp_path, "work-1", limit=0))
    assert places(tmp_path) == [folders[1]]  # the work in this folder may still need it


def test_fresh_draws_again_once(tmp_path, monkeypatch, made):
    draw([samples()], work(tmp_path))
    monkeypatch.setenv("SID2_FRESH", "1")
    made.clear()
    with stopped_after(monkeypatch, 1):
        draw([samples()], work(tmp_path, "second"))
    draw([samples()], work(tmp_path, "second"))
    assert made == [4, 4, 4, 2]


def test_a_damaged_list_of_users_is_written_anew(tmp_path, made):
    draw([samples()], work(tmp_path))
    for mark in (tmp_path / "drawn" / "users").iterdir():
        mark.write_bytes(b"\0\0")
    draw([samples()], work(tmp_path))
    assert len(list((tmp_path / "drawn" / "users").glob("*.json"))) == 1


def test_a_sampler_without_a_description_is_drawn_in_the_work_folder(tmp_path, made):
    class Odd:
        """A sampler that is not a dataclass, such as a plugin's."""

        evaluations_per_step, init, step = DDIM().evaluations_per_step, DDIM().init, DDIM().step

    odd = replace(spec(), method=replace(spec().method, sampler=Odd()))
    draw([samples(odd)], work(tmp_path))
    assert len(list((tmp_path / "first" / "base").glob("chunk-*.npz"))) == 3


def test_descriptions_depend_on_types_and_values():
    values = [1, 1.0, True, "1", None, [1], {"a": 1}, NoGuidance(), ConstantGuidance(1.0)]
    values += [np.float32(1), np.ones(1, np.float32), np.ones((1, 1), np.float32)]
    found = [store._short(store.described(value)) for value in values]
    assert len(set(found)) == len(values)
    with pytest.raises(TypeError, match="object has no description"):
        store.described([object()])
