"""Quality over the training: what is drawn from the snapshots, and the table."""

import numpy as np
import pandas as pd

from sid2core.config.training import Ema
from sid2core.diffusion.guidance import ConstantGuidance, NoGuidance
from sid2core.evaluation import samplers_table, trajectory
from sid2core.evaluation.measuring import Measurement
from sid2core.inference.model import Trained
from sid2core.inference.searched import Searched
from sid2core.metrics.scores import Score
from sid2core.models import network
from sid2core.training import snapshots
from tests import tiny
from tests.inference.test_averages import DIFFUSION, NET, scaled

WIDE = Ema(kind="power", value=0.1)
SAMPLING = tiny.params().sampling


def model(folder):
    """Weights of step t are t times the same, those of its wider average half as much."""
    network.save(folder, NET, scaled(30), {"diffusion": DIFFUSION})
    for step in (20, 10):
        network.save_weights(folder / "snapshots" / snapshots.name(step), scaled(step))
        path = folder / "snapshots" / snapshots.name(step, "ema_power_0.1")
        network.save_weights(path, scaled(step / 2))
    return Trained.load(folder)


def factor(spec):
    name, weights = next(iter(scaled(1).items()))
    return float(np.median(spec.params[name] / np.asarray(weights)))


def test_each_snapshot_is_drawn_without_and_with_the_guidance_that_was_found(tmp_path):
    base = model(tmp_path)
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.safetensors")]
    steps = snapshots.steps(files)
    assert steps == [10, 20]
    found = Searched(base, ConstantGuidance(0.5), steps=2)
    drawn = trajectory.points(steps, base, found, WIDE, SAMPLING)
    assert [(one.step, one.curve, one.spec.name) for one in drawn] == [
        (10, "no_guidance", "snapshot_10"),
        (10, "best_guidance", "snapshot_10_searched"),
        (20, "no_guidance", "snapshot_20"),
        (20, "best_guidance", "snapshot_20_searched"),
    ]
    methods = [one.spec.method for one in drawn[:2]]
    assert [one.guidance for one in methods] == [NoGuidance(), ConstantGuidance(0.5)]
    assert [one.steps for one in methods] == [SAMPLING.steps, 2]
    np.testing.assert_allclose([factor(one.spec) for one in drawn], [10, 5, 20, 10], rtol=1e-5)


def test_without_guidance_there_is_one_curve(tmp_path):
    base = model(tmp_path)
    found = Searched(base, NoGuidance())
    (only,) = trajectory.points([20], base, found, None, SAMPLING)
    assert only.curve == samplers_table.PLAIN


def test_without_snapshots_the_table_is_its_heading(tmp_path):
    trajectory.write(tmp_path, [], {}, "fd")
    table = pd.read_csv(tmp_path / "trajectory.csv")
    assert [*table] == ["curve", "metric", "step", "samples", "value", "low", "high"]
    assert table.empty


def test_the_table_has_the_primary_distance_with_its_interval(tmp_path):
    base = model(tmp_path)
    (point,) = trajectory.points([20], base, Searched(base, NoGuidance()), None, SAMPLING)
    scores = [
        Score("classifier", "fd_eval", 40, 9.0),
        Score("inception", "fid_eval", 40, 3.0, 2.5, 3.5),
    ]
    trajectory.write(tmp_path, [point], {"snapshot_20": Measurement(scores, None)}, "fid")
    (row,) = pd.read_csv(tmp_path / "trajectory.csv").to_dict("records")
    assert row == {
        **{"curve": "no_guidance", "metric": "fid_eval", "step": 20, "samples": 40},
        **{"value": 3.0, "low": 2.5, "high": 3.5},
    }
