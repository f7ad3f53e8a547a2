"""A race finds the best setting with fewer samples than a grid, in simulation."""

import numpy as np
import pytest

from sid2core.inference import racing
from sid2core.metrics.uncertainty import Expansion

SETTINGS, SAMPLES, FIRST = 40, 4000, 250
COUNTS = racing.rounds(SAMPLES, FIRST)


class Simulation:
    """Distances of settings whose samples are paired: 9 tenths of their scatter are common.

    The scatter is that of the embedded default: 0.028 between seeds at 500 samples. The settings
    lie on a parabola around the best one, as guidance weights do, with noise.
    """

    def __init__(self, seed, settings=SETTINGS):
        rng = self._rng = np.random.default_rng(seed)
        self.truth = 0.15 + 0.5 * np.linspace(-0.6, 1, settings) ** 2 + 0.02 * rng.random(settings)
        common = rng.normal(size=SAMPLES)
        own = rng.normal(size=(settings, SAMPLES))
        self._psi = 0.028 * 500**0.5 * (0.9**0.5 * common + 0.1**0.5 * own)
        self.drawn = 0

    def measured(self, kept, count):
        """As many samples of each setting, with a second order of the size of the bias."""
        halves = 20 / count + (4 / count) * self._rng.normal(size=(SETTINGS, 32))
        found = {}
        for name in kept:
            index = int(name)
            psi = self._psi[index, :count]
            distance = self.truth[index] + psi.mean() + 20 / count
            found[name] = Expansion(float(distance), psi - psi.mean(), halves[index])
        return found


def race(simulation, tolerance):
    """The last standing, and the images that were drawn."""
    kept, drawn, previous = [str(index) for index in range(len(simulation.truth))], 0, 0
    for count in COUNTS:
        drawn += len(kept) * (count - previous)
        found = racing.standing(simulation.measured(kept, count), 0.9, len(COUNTS), tolerance)
        kept, previous = list(found.kept), count
        if found.settled:
            break
    return found, drawn


def test_a_quarter_of_the_images_finds_the_winner_in_nine_of_ten_cases():
    wrong, share = [], []
    for seed in range(50):
        simulation = Simulation(seed)
        found, drawn = race(simulation, tolerance=0.01)
        wrong.append(str(simulation.truth.argmin()) not in found.kept)
        share.append(drawn / (SETTINGS * SAMPLES))
    assert np.mean(wrong) <= 0.1
    assert np.mean(share) <= 0.25


def test_what_is_left_is_within_the_tolerance_where_the_race_is_settled():
    for seed in range(15):
        simulation = Simulation(seed)
        found, _ = race(simulation, tolerance=0.05)
        excess = simulation.truth[[int(name) for name in found.kept]] - simulation.truth.min()
        assert found.settled
        assert excess.max() <= 0.05


def test_rounds_double_up_to_all_samples():
    assert racing.rounds(1000, 250) == [250, 500, 1000]
    assert racing.rounds(900, 250) == [250, 500, 900]
    assert racing.rounds(100, 250) == [100]


def test_equal_settings_stay():
    simulation = Simulation(0, settings=3)
    simulation.truth[:] = 0.2
    simulation._psi[:] = simulation._psi[0]
    found = racing.standing(simulation.measured(["0", "1", "2"], 1000), 0.9, 1, 1.0)
    assert sorted(found.kept) == ["0", "1", "2"]
    assert found.settled


def test_the_level_is_that_of_all_comparisons_together():
    assert racing.level(0.9, 41, 5) == pytest.approx(1 - 0.2 / 200)
    assert racing.level(0.9, 2, 1) == pytest.approx(0.8)
