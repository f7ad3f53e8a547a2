"""The price of distillation against sums by hand and against the compiled program."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from sid2core.conditioning import ConditionSpec
from sid2core.models.execution import Remat
from sid2core.plan import distillation, plan, text
from sid2core.plan.distillation import Model
from tests import tiny
from tests.plan.test_plan import PRICE, planned

BASE = Model(gflops=100.0, weight_bytes=4 * 10**9)
SMALL = Model(gflops=25.0, weight_bytes=10**9)
STEPS = {"steps": [4, 1], "iterations": 1000, "batch_size": 64}


def priced(negatives=("unconditional",), conditional=True, trained=None, **changes):
    settings = tiny.params(distill=STEPS | changes).distill
    return distillation.price(settings, [*negatives], BASE, trained, conditional=conditional)


@pytest.mark.parametrize(
    ("negatives", "conditional", "gflops", "worse"),
    [
        (["unconditional"], True, 100, 0),
        (["unconditional"], False, 0, 0),
        ([400], False, 100, 4 * 10**9),
        (["train_negative"], True, 25, 10**9),
        (["unconditional", "train_negative"], True, 100, 10**9),
    ],
)
def test_the_teacher_is_counted_with_its_costliest_guidance(negatives, conditional, gflops, worse):
    found = priced(negatives, conditional, SMALL)
    assert found.negative_gflops == gflops
    assert found.state_bytes == 8 * 4 * 10**9 + worse


def test_an_iteration_of_the_alternating_form():
    """Auxiliary: student 1, auxiliary 3, teacher 2. Student: student 3, auxiliary 1, teacher 2."""
    found = priced()
    assert [one.steps for one in found.students] == [4, 1]
    for one in found.students:
        assert found.forwards(one.passes) == 12
        assert found.zettaflops(one) == pytest.approx(12 * 100e9 * 64 * 1000 / 1e21)
        assert found.zettaflops(one, 2) == pytest.approx(16 * 100e9 * 64 * 1000 / 1e21)


@pytest.mark.parametrize(("times", "expected"), [("grid", [18, 12]), ("continuous", [20, 14])])
def test_a_roll_out_adds_forward_passes_of_both_batches(times, expected):
    """4 steps: 3 forwards to a time on the grid, else 4; 1 step: 0 or 1."""
    found = priced(states="rollout", times=times)
    assert [found.forwards(one.passes) for one in found.students] == expected


@pytest.mark.parametrize(("preconditioner", "copies"), [("adam", 6), ("identity", 5)])
def test_an_iteration_in_parameter_space(preconditioner, copies):
    """Gradient: student 1, teacher 3, its negative 1. Student: student 3, tangent of teacher 2."""
    form = SimpleNamespace(
        name="parameter_space", settings=SimpleNamespace(preconditioner=preconditioner)
    )
    settings = tiny.params(distill=STEPS).distill.model_copy(update={"form": form})
    found = distillation.price(settings, ["unconditional"], BASE, None, conditional=True)
    assert [found.forwards(one.passes) for one in found.students] == [10, 10]
    assert found.state_bytes == copies * BASE.weight_bytes
    assert found.gradient_bytes == 2 * BASE.weight_bytes


def test_time_and_what_fits():
    price = replace(PRICE, distillation=priced(accumulation=2))
    found = planned(price=price, remat=Remat.BLOCKS)
    (one, _) = price.distillation.students
    products = 14 * 100e9 * 64 * 1000
    assert found.student_days(one) == pytest.approx(products / (4 * 1e15 * 0.5) / 86_400)
    assert found.distill_local == 8
    # 90 of 100 GB are usable, 32 are state and 4 gradient; an example takes 3, without remat 10.
    assert found.distill_chosen.most == 18
    assert found.distill_chosen.bytes == (36 + 8 * 3) * 10**9
    assert plan.distill_cures(found) == []
    cures = plan.distill_cures(planned(price=price))
    assert cures[0] == "runtime.mesh.data=1 and runtime.mesh.fsdp=4"
    assert "distill.accumulation) to 20 (5 per device; remat none)" in cures[-1]


def test_it_is_in_both_outputs():
    found = planned(price=replace(PRICE, distillation=priced()))
    value = text.as_json(found)["distillation"]
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert [one["steps"] for one in value["students"]] == [4, 1]
    assert value["students"][0]["forwards_iteration"] == 12
    lines = text.lines(found)
    assert any(line.startswith("  4 steps ") and " 12 " in line for line in lines)
    assert text.as_json(planned())["distillation"] is None


def test_the_price_is_that_of_the_parameters():
    found = plan.price(tiny.params(distill=STEPS), (8, 8, 1), ConditionSpec.of_classes(10))
    made = found.distillation
    assert made.model == Model(found.gflops, found.gradient_bytes)
    assert made.negative_gflops == found.gflops
    assert (made.iterations, made.batch, made.accumulation) == (1000, 64, 1)
