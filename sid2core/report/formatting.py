"""Numbers as text: few digits, one unit per column, a dash for an unknown value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

NOTHING = "–"
_FLOPS = (
    (1e12, "ZFLOPs"),
    (1e9, "EFLOPs"),
    (1e6, "PFLOPs"),
    (1e3, "TFLOPs"),
    (1.0, "GFLOPs"),
    (1e-3, "MFLOPs"),
    (1e-6, "kFLOPs"),
)
_MEMORY = ((1024.0**2, "TiB"), (1024.0, "GiB"), (1.0, "MiB"), (1 / 1024, "KiB"))
_MAX_DECIMALS = 6

_METRICS = {
    **{"fid": "FID", "kid": "KID", "sfid": "sFID", "dinov2": "DINOv2"},
    **{"fvd": "FVD", "k600": "K600", "psnr": "PSNR", "ssim": "SSIM"},
}


def fixed(value: float, decimals: int) -> str:
    """``value`` with ``decimals`` decimals and thousands separators; a dash if it is not finite."""
    if not math.isfinite(value):
        return NOTHING
    text = f"{value:,.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "\N{MINUS SIGN}")


def significant(value: float, digits: int = 3) -> str:
    """``value`` to ``digits`` significant digits: 1,234 and 12.3 and 0.0123."""
    return fixed(value, decimals_for([value], digits))


def column(values: Sequence[float], digits: int = 3) -> list[str]:
    """A column of numbers with the same number of decimals, so that their points align."""
    decimals = decimals_for(values, digits)
    return [fixed(value, decimals) for value in values]


def decimals_for(values: Sequence[float], digits: int = 3) -> int:
    """The decimals that show the median of ``values`` to ``digits`` significant digits."""
    sizes = [abs(value) for value in values if math.isfinite(value) and value != 0]
    if not sizes:
        return 0
    exponent = math.floor(math.log10(median(sizes)))
    return min(max(digits - 1 - exponent, 0), _MAX_DECIMALS)


def count(value: float) -> str:
    """A whole number with thousands separators."""
    return fixed(value, 0)


def steps(value: float) -> str:
    """A number of steps in words: ``1 step``, ``1,000 steps``."""
    return f"{count(value)} {'step' if value == 1 else 'steps'}"


def plain(value: float) -> str:
    """A parameter as in ``params.yaml``: 0.5, 1, −3."""
    if math.isnan(value):
        return NOTHING
    return f"{value:g}".replace("-", "\N{MINUS SIGN}").replace("inf", "\N{INFINITY}")


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{fixed(100 * value, 1)}%" if math.isfinite(value) else NOTHING


def flops_unit(gflops: Sequence[float]) -> tuple[float, str]:
    """The unit in which the largest of ``gflops`` is at least one: (its size in GFLOPs, name)."""
    return _unit(gflops, _FLOPS)


def flops(gflops: float) -> str:
    """A cost given in GFLOPs, with a unit that fits its size."""
    return _with_unit(gflops, _FLOPS)


def memory_unit(mib: Sequence[float]) -> tuple[float, str]:
    """The unit in which the largest of ``mib`` is at least one: (its size in MiB, name)."""
    return _unit(mib, _MEMORY)


def memory(mib: float) -> str:
    """Memory given in MiB, with a unit that fits its size."""
    return _with_unit(mib, _MEMORY)


def _unit(values: Sequence[float], units: Sequence[tuple[float, str]]) -> tuple[float, str]:
    largest = max((value for value in values if math.isfinite(value)), default=1.0)
    return next(((size, name) for size, name in units if largest >= size), units[-1])


def _with_unit(value: float, units: Sequence[tuple[float, str]]) -> str:
    if not math.isfinite(value):
        return NOTHING
    size, name = _unit([value], units)
    return f"{significant(value / size)} {name}"


def interval(low: float, high: float) -> str:
    """A log-SNR interval: ``(−3, 5)``, or the whole range if neither end is given."""
    if math.isnan(low) and math.isnan(high):
        return "whole range"
    low, high = (-math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high)
    return f"({plain(low)}, {plain(high)})"


def metric(name: str) -> str:
    """The text for a metric's name: ``sfid_train`` is sFID train, ``…_ratio`` is … / real."""
    text = " ".join(_METRICS.get(part, part) for part in name.removesuffix("_ratio").split("_"))
    return f"{text} / real" if name.endswith("_ratio") else text
