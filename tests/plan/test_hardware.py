"""The devices that a plan knows."""

import jax
import pytest

from sid2core.plan import hardware


def test_a_data_sheet_counts_two_flops_per_multiply_add() -> None:
    one = hardware.hardware("h100")
    assert (one.name, one.memory, one.flops) == ("h100", 80 * 10**9, 494.5e12)
    assert one.source.startswith("NVIDIA's data sheet")


@pytest.mark.parametrize("name", hardware.SHEETS)
def test_units_are_bytes_and_multiply_adds_per_second(name: str) -> None:
    """Accelerators have 16 to 300 GB and 50 to 2,000 tera multiply-adds a second."""
    one = hardware.hardware(name)
    assert 16e9 <= one.memory <= 300e9
    assert 50e12 <= one.flops <= 2000e12


def test_only_devices_with_a_kernel_keep_no_matrix_of_attention() -> None:
    assert hardware.attention("h200") == "recomputed"
    assert hardware.attention("tpu-v6e") is None
    assert hardware.attention("cpu") is None


def test_the_rate_of_this_machine_is_measured() -> None:
    one = hardware.hardware("cpu")
    assert jax.devices()[0].platform != "cpu" or 1e8 < one.flops < 1e14
    assert one.memory > 2**28
