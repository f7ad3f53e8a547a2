import json
import math
from dataclasses import asdict, fields, replace

import pandas as pd
import pytest

from sid2core.diffusion.guidance import ConstantGuidance, IntervalGuidance, NoGuidance
from sid2core.evaluation import tables
from sid2core.evaluation.measuring import Measurement
from sid2core.evaluation.samplers_table import BASELINE, NUMBERS, TEXTS, SamplerRow
from sid2core.metrics.scores import Score
from sid2core.models import cost
from tests import tiny
from tests.evaluation.samplers import run, spec

SCORES = [
    Score("classifier", "fd_eval", 1000, 2.5, 2.0, 3.0, 0.125),
    Score("classifier", "fd_train", 1000, 1.23456789),
    Score("classifier", "precision", 1000, 0.5),
    Score("inception", "fid_eval", 1000, 30.0),
]
MEASURED = Measurement(SCORES, 0.75)


@pytest.mark.parametrize(
    ("guidance", "weight", "low", "high"),
    [
        (NoGuidance(), 0.0, math.nan, math.nan),
        (ConstantGuidance(0.5), 0.5, math.nan, math.nan),
        (ConstantGuidance(0.0), 0.0, math.nan, math.nan),
        (IntervalGuidance(2.0, -3.0, 5.0), 2.0, -3.0, 5.0),
    ],
)
def test_a_row_says_how_it_was_guided_and_what_it_cost(guidance, weight, low, high):
    one = spec(guidance, steps=8)
    row = tables.sampler_row(one, MEASURED)
    assert (row.sampler, row.title, row.steps) == ("base", "the base", 8)
    assert [row.guidance_weight, row.logsnr_min, row.logsnr_max] == pytest.approx(
        [weight, low, high], nan_ok=True
    )
    assert row.nfe == one.method.nfe >= 8
    assert row.gflops_forward == pytest.approx(cost.forward_gflops(tiny.Affine().config))
    assert row.gflops_image == pytest.approx(row.nfe * row.gflops_forward)
    assert (row.samples, row.fd_train, row.fd_eval) == (1000, 1.234568, 2.5)


def test_columns_that_do_not_apply_to_real_images_are_empty(tmp_path):
    tables.write(tmp_path, [spec(), BASELINE], {"base": MEASURED, BASELINE: MEASURED})
    text = (tmp_path / "samplers.csv").read_text()
    assert text.splitlines()[2] == (
        "train_images,real training images,,,,,1000,2.5,1.234568,0.75,,,,1.0,,0.5,,"
    )


def test_the_baseline_of_clips_is_named_so():
    found = {clips: tables.sampler_row(BASELINE, MEASURED, clips=clips) for clips in (False, True)}
    assert [found[clips].title for clips in (False, True)] == [
        "real training images",
        "real training clips",
    ]


@pytest.mark.parametrize(("fd", "warned"), [(24.9, False), (25.1, True)])
def test_samples_far_from_real_images_are_warned_of(tmp_path, caplog, fd, warned):
    """Further than ten times the baseline's distance of 2.5."""
    far = Measurement([replace(SCORES[0], value=fd), *SCORES[1:]], 0.75)
    tables.write(tmp_path, [spec(), BASELINE], {"base": far, BASELINE: MEASURED})
    messages = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(messages) == warned
    if warned:
        assert messages[0] == (
            "samples are further from real images than 10 times the real-data baseline: fd_eval "
            "of base 25.1; of real images 2.5. Look at the samples before you use them; a longer "
            "training (train.steps) usually helps"
        )


def test_the_columns_are_those_of_the_row(tmp_path):
    tables.write(tmp_path, [spec(), BASELINE], {"base": MEASURED, BASELINE: MEASURED})
    names = [one.name for one in fields(SamplerRow)]
    assert list(pd.read_csv(tmp_path / "samplers.csv")) == names
    assert sorted(names) == sorted((*TEXTS, *NUMBERS))


def test_metrics_carry_their_sample_count_in_the_name(tmp_path):
    tables.write(tmp_path, [spec(), BASELINE], {"base": MEASURED, BASELINE: MEASURED})
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    scores = {"fd_eval_1k": 2.5, "fd_train_1k": 1.23457, "fid_eval_1k": 30.0, "agreement_1k": 0.75}
    scores |= {"fd_eval_ratio_1k": 1.0, "precision_1k": 0.5}
    gflops = 3 * cost.forward_gflops(tiny.Affine().config)
    assert metrics == {
        "base": scores | {"nfe": 3, "gflops_image": round(gflops, 5)},
        BASELINE: scores,
    }


def test_each_distance_to_the_eval_split_is_compared_with_that_of_real_images(tmp_path):
    fid = replace(SCORES[3], low=29.0, high=31.0)
    samples = Measurement([replace(SCORES[0], value=5.0), *SCORES[1:3], fid], 0.75)
    fewer = replace(SCORES[2], metric="sfid_eval", low=0.4)
    samples.scores.append(replace(fewer, samples=500))
    real = Measurement([*SCORES[:3], replace(fid, value=20.0), fewer], 0.75)
    tables.write(tmp_path, [spec(), BASELINE], {"base": samples, BASELINE: real})
    metrics = json.loads((tmp_path / "metrics.json").read_text())["base"]
    ratios = {name: value for name, value in metrics.items() if "ratio" in name}
    assert ratios == {"fd_eval_ratio_1k": 2.0, "fid_eval_ratio_1k": 1.5}
    rows = pd.read_csv(tmp_path / "scores.csv").set_index(["sampler", "metric"]).value
    assert rows["base", "fid_eval_ratio"] == 1.5
    assert pd.read_csv(tmp_path / "samplers.csv")["fd_eval_ratio"].tolist() == [2.0, 1.0]


def test_samplers_of_few_steps_are_expected_to_be_far(tmp_path, caplog):
    far = Measurement([replace(SCORES[0], value=99.0), *SCORES[1:]], 0.75)
    named = replace(spec(), name="few", series="DDIM")
    tables.write(tmp_path, [named, BASELINE], {"few": far, BASELINE: MEASURED})
    assert not caplog.records


def test_every_score_is_a_row():
    rows = list(tables.score_rows("base", SCORES))
    assert [row["metric"] for row in rows] == ["fd_eval", "fd_train", "precision", "fid_eval"]
    assert rows[0] == {"sampler": "base"} | asdict(SCORES[0])
    assert rows[1]["value"] == 1.234568


def test_a_measurement_survives_json():
    value = {"scores": [asdict(one) for one in SCORES], "agreement": 1 / 3}
    assert Measurement.of_json(json.loads(json.dumps(value))) == Measurement(SCORES, 1 / 3)


def test_the_table_of_costs_is_the_supplements(tmp_path):
    row = tables.cost_row(spec(ConstantGuidance(0.5), steps=8), 0.0123456, run(tmp_path))
    assert row["nfe"] == 16
    assert row["tflops_image"] == pytest.approx(16 * row["gflops_forward"] / 1000)
    assert row["seconds_image"] == 0.01235
    assert (row["batch_size"], row["devices"]) == (4, 1)


def test_images_without_classes_have_no_agreement(tmp_path):
    unlabelled = Measurement(SCORES, None)
    tables.write(tmp_path, [spec()], {"base": unlabelled})
    assert pd.read_csv(tmp_path / "samplers.csv")["agreement"].isna().all()
    assert "agreement_1k" not in json.loads((tmp_path / "metrics.json").read_text())["base"]
