from sid2core.conditioning import ConditionSpec
from sid2core.config import build
from sid2core.plan.tailored import speed
from tests import tiny


def test_this_machine_is_measured(monkeypatch):
    monkeypatch.setattr(speed, "_SECONDS", 0.01)
    made = speed.here(build.network(tiny.params().model, (8, 8, 1), ConditionSpec.of_classes(2)))
    assert 1e6 < made.rate < 1e16
    assert (made.name, made.compute_dtype) == ("cpu", "float32")


def test_another_device_is_taken_from_its_data_sheet():
    made = speed.device("h100")
    assert made.rate == 0.3 * 989e12 / 2
    assert (made.memory, made.compute_dtype) == (80 * 10**9, "bfloat16")
