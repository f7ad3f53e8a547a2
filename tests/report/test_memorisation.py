"""Which images are searched, and that indices are those of the whole split."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sid2core.report import memorisation
from sid2core.report.read import inputs
from tests.report import synthetic
from tests.report.test_neighbours import brute_force


@given(st.integers(1, 5000), st.integers(2, 40).map(lambda runs: 50 * runs))
def test_all_or_evenly_spaced_runs_are_chosen(length: int, limit: int) -> None:
    chosen = memorisation.spread(length, limit)
    assert len(chosen) == min(length, limit)
    assert (np.diff(chosen) > 0).all()
    assert chosen[0] == 0
    assert chosen[-1] == length - 1
    if length > limit:
        runs = chosen.reshape(-1, 50)
        assert (np.diff(runs, axis=1) == 1).all()
        gaps = np.diff(runs[:, 0])
        assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("limit", [100, 1000])
def test_indices_are_those_of_the_whole_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    synthetic.write(tmp_path, synthetic.World())
    monkeypatch.setattr(memorisation, "LARGEST_SET", limit)
    monkeypatch.setattr(memorisation, "_CHUNK", 30)
    found = inputs.read(synthetic.params(), tmp_path)
    sampler = found.samplers[0]
    check = memorisation.check(found, sampler)
    searched = memorisation.spread(len(found.train), limit)
    assert check.searched == len(searched) == min(limit, 120)
    distance, index = brute_force(check.images, found.train.images[searched], 3)
    np.testing.assert_allclose(check.nearest.distance, distance, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(check.nearest.index, searched[index])
    own, _ = brute_force(found.held_out.images, found.train.images[searched], 1)
    np.testing.assert_allclose(check.held_out, own[:, 0], rtol=1e-12, atol=1e-12)
