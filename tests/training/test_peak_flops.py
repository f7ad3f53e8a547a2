from types import SimpleNamespace

import jax
import pytest

from sid2core.training import peak_flops


def test_shares_of_a_processor_add_nothing(monkeypatch):
    monkeypatch.setattr(peak_flops, "_SIZE", 256)
    peak_flops._of_first_device.cache_clear()
    alone = peak_flops.gflops_per_second("float32", 1)
    assert alone > 0
    assert peak_flops.gflops_per_second("float32", 8) == alone
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert peak_flops.gflops_per_second("float32", 8) == 2 * alone
    peak_flops._of_first_device.cache_clear()


def test_a_slower_device_has_a_lower_ceiling(monkeypatch):
    """By the clock: a product of size n has n³ multiply-adds."""
    ticks = iter([0.0, 2.0, 2.0, 3.0, 3.0, 7.0])
    monkeypatch.setattr(peak_flops, "_SIZE", 100)
    # Not the module's own clock: others look at that one too.
    monkeypatch.setattr(peak_flops, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    peak_flops._of_first_device.cache_clear()
    assert peak_flops.gflops_per_second("float32", 1) == pytest.approx(100**3 / 1e9 / 1.0)
    peak_flops._of_first_device.cache_clear()
