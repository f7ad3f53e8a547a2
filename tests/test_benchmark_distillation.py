"""The table of the benchmark of distillation: means, intervals and comparisons by hand."""

import pytest

from benchmarks.students import table
from sid2core.atomic import write_json

DEFAULT = {"form.name": "alternating", "eta": 1.0, "batch_size": 64}
OTHER = DEFAULT | {"eta": 0.5}
SCORES = {"agreement": 0.98, "precision": 0.9, "recall": 0.8, "coverage": None}


def student(seed, setting, fd, samplers):
    row = {"kind": "student", "steps": 2, "seed": seed, "setting": setting, "nfe": 2, "fd": fd}
    row |= {"seconds": 60.0, "to_teacher": [0.1, 0.0, 0.2], **SCORES}
    return row | {"to_samplers": {name: [one, one - 1, one + 1] for name, one in samplers.items()}}


def other(kind, name, seed, fd, nfe):
    return {"kind": kind, "name": name, "seed": seed, "fd": fd, "nfe": nfe, "most": nfe, **SCORES}


ROWS = [
    *(other("teacher", "teacher", seed, 1.0, 50) for seed in (0, 1)),
    *(other("sampler", name, seed, 9.0, 2) for name in ("ddim", "heun") for seed in (0, 1)),
    other("sampler", "ddim_4", 0, 3.0, 4),
    student(0, DEFAULT, 2.0, {"ddim": -7.0, "heun": -9.0, "ddim_4": 5.0}),
    student(1, DEFAULT, 3.0, {"ddim": -8.0, "heun": -6.0, "ddim_4": 5.0}),
    student(0, OTHER, 1.5, {"ddim": -7.5, "heun": -7.5, "ddim_4": 5.0}),
]


def test_the_interval_over_seeds_is_that_of_students_t():
    """For 1, 2, 3: t of 2 degrees of freedom at 0.95 is 2.92, s is 1."""
    found = table.mean([1.0, 2.0, 3.0])
    assert [found.value, found.low, found.high] == pytest.approx(
        [2, 2 - 2.91999 / 3**0.5, 2 + 2.91999 / 3**0.5], abs=1e-4
    )
    assert table.mean([0.25]).text() == "0.250"


def test_a_single_seed_has_the_interval_of_paired_samples():
    assert table.paired([[1.0, 0.5, 1.5]]).text(1) == "1.0 (0.5 to 1.5)"
    assert table.paired([[1.0, 0.5, 1.5], [1.0, 0.0, 9.0]]).text(1) == "1.0 (1.0 to 1.0)"


def test_the_nearest_sampler_is_the_hardest_of_equal_evaluations():
    """ddim: -7.5 ± 3.16, heun: -7.5 ± 9.47; ddim_4 has more evaluations."""
    evaluations = {"ddim": 2, "heun": 2, "ddim_4": 4}
    name, found = table.hardest(ROWS[7:9], evaluations, 2)
    assert name == "heun"
    assert found.value == -7.5
    assert table.hardest(ROWS[7:9], {"ddim_4": 4}, 2) is None


def test_the_default_is_compared_seed_by_seed():
    assert table.to_default([ROWS[9]], ROWS[7:9]).value == -0.5
    assert table.to_default([{**ROWS[9], "seed": 5}], ROWS[7:9]) is None


def test_the_document_has_a_line_for_each_setting(tmp_path):
    result = {"commands": ["python -m benchmarks.distillation"], "samples": 2000, "device": "cpu"}
    result |= {"jax": "0.10", "distill": DEFAULT, "rows": ROWS}
    write_json(tmp_path / "distillation-digits.json", result)
    table.write(tmp_path, tmp_path / "distillation.md")
    text = (tmp_path / "distillation.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| alternating")]
    assert lines[0].startswith("| alternating | 0.5 | 1 | 1.500 | 1.50 | -0.500 | -7.500 (")
    assert lines[1].startswith("| alternating | 1.0 | 2 | 2.500 (")
    assert "| the default |" in lines[1]
    assert "| 0.980 | 0.900 | 0.800 | – |" in lines[1]
    assert "batch" not in text.partition("### 2 steps")[2]
