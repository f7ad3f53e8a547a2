"""The stages with the user's Inception, here a formula that stands in for the network."""

import json

import jax
import numpy as np
import pandas as pd
import pytest

from sid2core import config
from sid2core.metrics import statistics
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.evaluator import Evaluator
from sid2core.metrics.networks import inception
from sid2core.metrics.statistics import Moments
from sid2core.pipeline import artifact
from stages import evaluate, guidance_search, reference
from tests import tiny

WIDTHS = {"pool3": 6, "logits": 10, "logits_unbiased": 10, "sfid": 4}


class Formula:
    """Random projections of the pixels, in place of 24 million weights."""

    def __call__(self, images, mode):
        values = images.reshape(len(images), -1).astype(np.float32) / 255
        return {
            name: np.tanh(values @ np.random.default_rng(width).normal(0, 1, (64, width))).astype(
                np.float32
            )
            for name, width in WIDTHS.items()
        }

    def provenance(self, mode):
        return {"extractor": "inception", "extractor_digest": "formula", "mode": mode}

    def save(self, path):
        path.write_bytes(b"weights of the formula")


@pytest.fixture
def weights(project, monkeypatch):
    """A project whose parameters name Inception's weights; those in an artifact are not checked."""

    def load(path, verify=True, **options):
        content = path.read_bytes()
        assert (content, verify) in (
            (b"as published", True),
            (b"weights of the formula", False),
        )
        assert options["sharding"] is None
        return Formula()

    monkeypatch.setattr(inception, "load", load)
    place = project / "inception.pth"
    place.write_bytes(b"as published")
    return place


def published(project):
    """Statistics as others keep them: a mean, a covariance, nothing else."""
    random = np.random.default_rng(3).normal(0, 1, (500, 6))
    place = project / "published.npz"
    np.savez(place, mu=random.mean(0), sigma=np.cov(random, rowvar=False))
    return place


def test_fid_leads_where_there_is_inception(project, weights):
    stats = published(project)
    tiny.write(
        project,
        eval={
            "inception_weights": str(weights),
            "reference_stats": str(stats),
            "infinity": True,
            "labels": "drawn",
        },
    )
    reference.main(config.read())
    made = artifact.load("reference")
    assert made.facts["gauges"] == ["classifier", "inception"]
    assert made.facts["spatial"] == ["inception"]
    gap = json.loads(reference.METRICS.read_text())
    assert {name.partition("_")[0] for name in gap} == {"accuracy", "fd", "fid"}
    weights.unlink()  # from now on the artifact has them

    guidance_search.main(config.read())
    search = json.loads((guidance_search.REPORTS / "metrics.json").read_text())
    assert "fid_train_24" in search
    assert "fd_train_24" not in search
    distill(project)
    evaluate.main(config.read())
    scores = pd.read_csv(evaluate.REPORTS / "scores.csv").set_index(["sampler", "metric"])
    table = pd.read_csv(evaluate.REPORTS / "samplers.csv").set_index("sampler")
    metrics = json.loads((evaluate.REPORTS / "metrics.json").read_text())
    mine = scores[scores["extractor"] == "inception"]
    images = np.load("artifacts/evaluate/base.npz")
    assert len(images["labels"]) == 30
    assert (images["labels"] != np.arange(30) % 10).any(), "drawn, not in turn"
    names = set(mine.loc["base"].index)
    assert {"fid_eval", "fid_train", "fid_published", "sfid_eval", "sfid_train"} < names
    assert {"inception_score", "kid_train", "precision", "recall"} < names
    assert {"fid_eval_infinity", "density", "coverage"} < names
    assert metrics["base"]["fid_eval_40"] == pytest.approx(
        mine.loc[("base", "fid_eval"), "value"], abs=1e-5
    )
    assert table.loc["base", "fd_eval"] != pytest.approx(metrics["base"]["fid_eval_40"], rel=0.01)
    own = Moments.load(artifact.load("evaluate").path("statistics/base.inception.npz"))
    theirs = Moments.published(stats, {"extractor": "inception", "mode": "tf1"})
    assert mine.loc[("base", "fid_published"), "value"] == pytest.approx(
        statistics.distance(own, theirs), abs=1e-6
    )
    assert Evaluator.load(made).primary.extractor.distance == "fid"


def distill(project):
    """As it is: neither students nor their teacher change what is looked at here."""
    made, search, train = (artifact.load(name) for name in ("distill", "guidance_search", "train"))
    kept = {
        path.relative_to(made.folder).as_posix(): path.read_bytes()
        for name in made.facts["students"]
        for path in (made.folder / name).iterdir()
    }
    inputs = {"train": train, "guidance_search": search}
    with artifact.create("distill", made.manifest["params"], inputs) as draft:
        for name, content in kept.items():
            draft.path(name).write_bytes(content)
        draft.facts |= {"students": made.facts["students"]}


def test_weights_that_are_not_there_are_told_of_before_any_work(project, monkeypatch):
    before = tiny.snapshot(project, "reference")
    tiny.write(project, eval={"inception_weights": "weights/inception.pth"})
    monkeypatch.setattr(jax, "jit", None)
    with pytest.raises(MetricsError) as caught:
        reference.main(config.read())
    message = str(caught.value)
    assert "weights/inception.pth" in message
    for part in ("95628359", inception.PUBLISHED.sha256, "mseitzer/pytorch-fid", "import-url"):
        assert part in message
    assert tiny.snapshot(project, "reference") == before, "the earlier result stays"


def test_published_statistics_need_the_network_they_are_of(project):
    tiny.write(project, eval={"reference_stats": "published.npz"})
    with pytest.raises(config.ParamsError, match="set inception_weights too"):
        config.read()
