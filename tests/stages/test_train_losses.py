"""The train stage with every loss: ten steps each, from one preparation."""

import functools
import json

import numpy as np
import pandas as pd
import pytest

from sid2core.config import ParamsError
from stages import analysis, prepare, text, train
from tests import tiny

STEPS = 10
BIAS = 1.5
LOSSES = {
    "sigmoid": {"bias": BIAS},
    "edm": {},
    "edm_monotonic": {},
    "elbo": {},
    "low_bit": {},
    "power": {"bias": BIAS, "levels": 2, "normalisation": "mean"},
}
SMALLEST = {
    "channels": [8],
    "blocks": ["res"],
    "encoder_depth": [],
    "decoder_depth": [],
    "temporal_strides": [],
    "dropout": [0.0],
}


def sections(name, **given):
    """Parameters of a short run that logs every step."""
    loss = {"name": name, name: given or LOSSES[name]}
    optimiser = {"learning_rate": 0.01, "warmup_steps": 2}
    return tiny.params(
        diffusion={"loss": loss},
        model=SMALLEST,
        train={"steps": STEPS, "optimiser": optimiser},
        analysis={"points": 31},
        runtime={"log_every": 1, "checkpoint_every": STEPS},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project's root in which the digits are prepared."""
    folder = tmp_path_factory.mktemp("losses")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SID2_WORK", "SID2_FRESH", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        patch.chdir(folder)
        prepare.main(sections("sigmoid"))
        text.main(sections("sigmoid"))
        yield folder


RUNS = {name: sections(name) for name in LOSSES} | {
    "unsplit": sections("power", bias=BIAS, levels=0, normalisation="mean"),
    "moving": sections("sigmoid", bias=BIAS, bias_start=-8.0, bias_steps=4),
}
QUICK = ("sigmoid", "power", "unsplit", "moving")
"""Those that the fast tests train; of the others tests/training/test_losses.py knows the values."""


@pytest.fixture(scope="module")
def curves(folder):
    """What the training of a loss logged, by its name in ``RUNS``; each is trained once."""

    @functools.cache
    def curve(name):
        train.main(RUNS[name])
        made = json.loads((folder / "artifacts/train/config.json").read_text())
        assert made["diffusion"]["loss"] == RUNS[name].diffusion.loss.model_dump()
        return pd.read_csv(folder / "reports/train/curve.csv")

    return curve


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in RUNS],
)
def test_every_loss_trains(curves, name):
    curve = curves(name)
    assert curve["step"].tolist() == list(range(1, STEPS + 1))
    assert np.isfinite(curve.to_numpy()).all()
    assert (curve["grad_norm"] > 0).all()


@pytest.mark.slow
def test_every_loss_is_another_one(curves):
    """The first step sees the same images, noise and weights, whatever the loss."""
    first = [curves(name)["loss"][0] for name in [*LOSSES, "moving"]]
    assert len({float(f"{value:.4g}") for value in first}) == len(first)


def test_the_power_loss_relates_as_its_paper_says(curves):
    first = {name: curves(name)["loss"][0] for name in ("sigmoid", "power", "unsplit")}
    # B.2 against B.1: 2 e^-b, as a mean over elements.
    assert first["unsplit"] == pytest.approx(2 * np.exp(-BIAS) * first["sigmoid"], rel=1e-4)
    # A low sub-band weighs more than the pixels it comes from, all at most one.
    assert first["unsplit"] < first["power"]


@pytest.mark.slow
def test_the_losses_relate_as_their_papers_say(curves):
    first = {name: curves(name)["loss"][0] for name in RUNS}
    # Where the weight is one at most, the bound is the most; and EDM's is raised by monotony.
    assert max(first["sigmoid"], first["moving"]) < first["elbo"]
    assert first["edm"] < first["edm_monotonic"]


def test_a_moving_bias_arrives(curves):
    """At step 4 it is the sigmoid loss; before, from a bias of -8, it counts far less."""
    moving, still = curves("moving")["loss"], curves("sigmoid")["loss"]
    assert moving[0] < 0.01 * still[0]
    np.testing.assert_allclose(moving[5:], still[5:], rtol=0.3)


def test_a_power_loss_that_splits_too_often_ends_before_any_work(folder):
    before = set(folder.glob(".sid2/train/*/made_for.json"))
    for stage in (train, analysis):
        with pytest.raises(ParamsError, match=r"diffusion\.loss\.power: found levels 4"):
            stage.main(sections("power", bias=BIAS, levels=4, normalisation="mean"))
    assert set(folder.glob(".sid2/train/*/made_for.json")) == before


@pytest.mark.parametrize("name", LOSSES)
def test_analysis_shows_every_loss(folder, name):
    analysis.main(sections(name))
    table = pd.read_csv(analysis.REPORTS / "weighting.csv")
    assert np.isfinite(table["value"]).all()
    bands = [f"weight_{band}" for band in ("LLLH", "LLHL", "LLHH", "LH", "HL", "HH")]
    expected = {"weight", "edm_monotonic", "density", "weighted_density"}
    assert set(table["curve"]) == expected | set(bands if name == "power" else ())
    weight = table[table["curve"] == "weight"]
    level = weight["logsnr"].iloc[15], weight["value"].iloc[15]
    passes = 4 if name == "power" else 0
    if name in ("sigmoid", "power"):
        at = BIAS - passes * np.log(2) - level[0]
        assert level[1] == pytest.approx(1 / (1 + np.exp(-at)), abs=1e-5)


def test_analysis_shows_a_moving_weight_where_it_arrives(folder):
    tables = []
    for given in ({}, {"bias_start": -8.0, "bias_steps": 100_000}):
        analysis.main(sections("sigmoid", bias=BIAS, **given))
        tables.append(pd.read_csv(analysis.REPORTS / "weighting.csv"))
    pd.testing.assert_frame_equal(*tables)
