"""Weights of chosen steps: kept through kills and damage; averages of other widths from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from sid2core.config.training import Ema
from sid2core.models import network
from sid2core.training import ema, loop, reconstruction, snapshots
from sid2core.training.mesh import ONE_DEVICE
from sid2core.training.reconstruction import Stored
from sid2core.training.snapshots import Snapshots
from tests.damage import DAMAGES
from tests.training.toy import RUNTIME, Killed, quadratic

STEPS = (3, 10)


class Kept(Snapshots):
    """Snapshots of the toy run, whose only weights are x."""

    def __call__(self, step, state):
        super().__call__(step, {"ema": {"x": state["x"]}, "emas": {"slow": {"x": state["step"]}}})


def fit(folder, **options):
    kept = Kept(STEPS, ["slow"], ONE_DEVICE, folder / "snapshots")
    loop.fit(quadratic(**options), folder, RUNTIME, snapshots=kept)
    return content(folder)


def content(folder):
    return {one.name: one.read_bytes() for one in (folder / "snapshots").glob("*.safetensors")}


def test_the_averages_of_chosen_steps_are_kept(tmp_path):
    found = fit(tmp_path)
    assert sorted(found) == [
        *("00000003.safetensors", "00000003.slow.safetensors"),
        *("00000010.safetensors", "00000010.slow.safetensors"),
    ]
    assert load_file(tmp_path / "snapshots" / "00000010.slow.safetensors")["x"] == 10


@pytest.mark.parametrize("at", [2, 3, 9, 14])
def test_a_killed_run_ends_with_the_same_snapshots(tmp_path, at):
    expected = fit(tmp_path / "whole")
    with pytest.raises(Killed):
        fit(tmp_path / "killed", fails_at=at)
    assert fit(tmp_path / "killed") == expected


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["00000003.safetensors", "00000010.slow.safetensors"])
def test_a_damaged_snapshot_is_made_again(tmp_path, damage, name):
    expected = fit(tmp_path / "whole")
    with pytest.raises(Killed):
        fit(tmp_path / "killed", fails_at=13)
    damage(tmp_path / "killed" / "snapshots" / name)
    assert fit(tmp_path / "killed") == expected


WIDTHS = {0.07: 1e-5, 0.09: 1e-5, 0.15: 1e-4}
"""How far averages of these widths may be from those kept directly."""
KEPT = (0.05, 0.1)


def test_averages_of_other_widths_are_those_kept_directly(tmp_path):
    """From 32 snapshots of two averages; the weights converge as in a training, with noise."""
    steps, rng = 640, np.random.default_rng(0)
    t = np.arange(steps + 1)[:, None]
    trajectory = 1 + np.exp(-t / 100) * rng.normal(size=6)
    trajectory += 0.001 * np.cumsum(rng.normal(size=(steps + 1, 6)), axis=0)
    shares = ema.shares([Ema(kind="power", value=width) for width in (*KEPT, *WIDTHS)])
    update = jax.jit(lambda states, row, step: ema.updated(states, row, step, shares))
    states, stored, files = {name: {"w": jnp.float32(trajectory[0])} for name in shares}, [], []
    for step, row in enumerate(trajectory[1:]):
        states = update(states, {"w": jnp.float32(row)}, jnp.int32(step))
        if (step + 1) % 20 == 0:
            for width in KEPT:
                stored.append(Stored(step + 1, width))
                files.append(tmp_path / snapshots.name(step + 1, f"ema_power_{width}"))
                network.save_weights(files[-1], states[f"ema_power_{width}"])
    for width, tolerance in WIDTHS.items():
        found = reconstruction.combination(stored, Stored(steps, width))
        weights = reconstruction.combined(files, found.coefficients)["w"]
        expected = np.asarray(states[f"ema_power_{width}"]["w"])
        assert np.abs(weights - expected).max() <= tolerance * np.abs(expected).max(), width
        assert found.coefficients.sum() == pytest.approx(1.0)


def test_few_snapshots_say_how_far_off_they_are():
    few = [Stored(step, width) for step in (500, 1000) for width in (0.05, 0.1)]
    near = reconstruction.combination(few, Stored(1000, 0.1))
    far = reconstruction.combination(few, Stored(1000, 0.25))
    assert near.error < 1e-6 < 0.05 < far.error
