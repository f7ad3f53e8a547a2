"""A race among settings: samples are spent where the decision is open (SiD2 supplement B.4).

All settings in the race have drawn the same images so far (same keys, same conditions), so their
distances are paired. After each round the settings that are worse than the best one at the stated
confidence leave, and those that stay draw as many images again. A decision depends on features
alone, so every process comes to the same one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sid2core.metrics.uncertainty import Difference, Expansion, difference


@dataclass(frozen=True)
class Standing:
    """Where the settings in the race stand after a round.

    Attributes:
        best: the setting with the smallest bias-corrected distance.
        excess: of each setting, its distance less the best one's.
        kept: the settings that are not worse at the stated confidence, best first.
        settled: whether the race is over: one is left, or all that are left are within the
            tolerance of the best one.
    """

    best: str
    excess: Mapping[str, Difference]
    kept: tuple[str, ...]
    settled: bool


def rounds(samples: int, first: int) -> list[int]:
    """Images of a setting after each round: first, 2 first, 4 first, … up to ``samples``."""
    counts = [min(first, samples)]
    while counts[-1] < samples:
        counts.append(min(2 * counts[-1], samples))
    return counts


def level(confidence: float, racing: int, rounds: int) -> float:
    """The level of each two-sided interval, 1 - 2 (1 - confidence) / ((racing - 1) rounds).

    A setting leaves where the lower end of its excess is above 0. In a round the truly best one is
    compared with one of the others that are still racing, so in all rounds together it leaves with
    a probability of at most 1 - confidence (Bonferroni).
    """
    return 1 - 2 * (1 - confidence) / (max(1, racing - 1) * rounds)


def standing(
    measured: Mapping[str, Expansion], confidence: float, rounds: int, tolerance: float
) -> Standing:
    """Compare the settings in the race, which have drawn equally many images.

    Args:
        measured: the distance of each, from paired samples.
        confidence: that the truly best setting is never the one that leaves.
        rounds: of the whole race.
        tolerance: differences below it do not matter.
    """
    interval = level(confidence, len(measured), rounds)
    corrected = {name: one.distance - one.bias for name, one in measured.items()}
    order = sorted(measured, key=lambda name: corrected[name])
    best = order[0]
    excess = {name: difference(measured[name], measured[best], interval) for name in order}
    kept = tuple(name for name in order if name == best or excess[name].low <= 0)
    reach = max(max(-excess[name].low, excess[name].high) for name in kept)
    return Standing(best, excess, kept, len(kept) == 1 or reach <= tolerance)
