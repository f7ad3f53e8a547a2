"""The stages with the user's Inception, here a formula that stands in for the network."""

import json
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from sid2core import config
from sid2core.metrics import statistics
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.evaluator import Evaluator
from sid2core.metrics.networks import inception
from sid2core.metrics.networks.protocol import LOGITS, POOL, SPATIAL
from sid2core.metrics.statistics import Moments
from sid2core.pipeline import artifact
from stages import evaluate, guidance_search, reference
from tests import tiny
from tests.refusals import refused

WIDTHS = {POOL: 6, LOGITS: 10, SPATIAL: 4}


class Formula:
    """Random projections of the pixels, in place of 24 million weights."""

    name, distance, kernel, widths = "inception", "fid", "kid", WIDTHS
    provenance = {"extractor": "inception", "extractor_digest": "formula", "mode": "tf1"}

    def check(self, shape):
        assert shape == (8, 8, 1)

    def features(self, images):
        values = images.reshape(len(images), -1).astype(np.float32) / 255
        return {
            kind: np.tanh(values @ np.random.default_rng(width).normal(0, 1, (64, width))).astype(
                np.float32
            )
            for kind, width in WIDTHS.items()
        }

    def save(self, file):
        file("weights.safetensors").write_bytes(b"weights of the formula")
        file("extractor.json").write_text('{"mode": "tf1"}')


@pytest.fixture
def weights(project, monkeypatch):
    """A project whose parameters name Inception's weights; those in an artifact are not checked."""

    def load(path, verify=True, *, mode, batching):
        content = Path(path).read_bytes()
        assert (content, verify) in (
            (b"as published", True),
            (b"weights of the formula", False),
        )
        assert mode == "tf1"
        assert batching.sharding is None
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


def test_inception_is_the_primary_extractor_if_it_is_there(project, weights):
    stats = published(project)
    tiny.write(
        project,
        eval={
            "extractors": {"inception": {"weights": str(weights), "mode": "tf1"}},
            "reference_stats": str(stats),
            "infinity": True,
            "labels": "drawn",
        },
    )
    reference.main(config.read())
    made = artifact.load("reference")
    assert made.metadata["extractors"] == ["classifier", "inception"]
    assert made.metadata["primary_extractor"] == "inception"
    gap = json.loads(reference.METRICS.read_text())
    assert {name.partition("_")[0] for name in gap} == {"accuracy", "fd", "fid"}
    weights.unlink()  # from now on the artifact has them

    guidance_search.main(config.read())
    search = json.loads((guidance_search.REPORTS / "metrics.json").read_text())
    assert {name.rpartition("_train_")[0] for name in search if "_train_" in name} == {"fid"}
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
    made = artifact.load("distill")
    kept = {
        path.relative_to(made.folder).as_posix(): path.read_bytes()
        for name in made.metadata["students"]
        for path in (made.folder / name).iterdir()
    }
    inputs = {name: artifact.load(name) for name in made.manifest["inputs"]}
    with artifact.create("distill", made.manifest["params"], inputs) as draft:
        for name, content in kept.items():
            draft.path(name).write_bytes(content)
        draft.metadata |= {"students": made.metadata["students"]}


def test_missing_weights_are_reported_before_any_work(project, monkeypatch):
    before = tiny.snapshot(project, "reference")
    settings = {"weights": "weights/inception.pth", "mode": "tf1"}
    tiny.write(project, eval={"extractors": {"inception": settings}})
    monkeypatch.setattr(jax, "jit", None)
    with refused(MetricsError, inception.PUBLISHED.needed(Path("weights/inception.pth"))):
        reference.main(config.read())
    assert tiny.snapshot(project, "reference") == before, "the earlier result stays"


def test_published_statistics_need_their_network(project):
    tiny.write(project, eval={"reference_stats": "published.npz"})
    with pytest.raises(config.ParamsError, match="set extractors.inception.weights, or"):
        config.read()


def test_the_primary_extractor_is_named_by_a_parameter(project, weights):
    settings = {"weights": str(weights), "mode": "tf1"}
    parameters = {"extractors": {"inception": settings}, "primary_extractor": "classifier"}
    tiny.write(project, eval=parameters)
    reference.main(config.read())
    made = artifact.load("reference")
    assert made.metadata["extractors"] == ["classifier", "inception"]
    assert Evaluator.load(made).primary.extractor.name == "classifier"
    tiny.write(project, eval={"primary_extractor": "dinov2"})
    with pytest.raises(config.ParamsError, match="primary_extractor is 'dinov2'; expected null,"):
        config.read()
