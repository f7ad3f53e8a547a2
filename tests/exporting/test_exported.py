"""What can be exported, and what is known about it."""

import hashlib
import json

import pytest
from ruamel.yaml import YAML

from sid2core.cli import main
from sid2core.exporting import card, formats
from sid2core.exporting.about import About
from sid2core.exporting.check import Difference
from sid2core.exporting.exported import ExportError
from sid2core.inference import requested
from sid2core.inference.checks import SampleError
from sid2core.inference.public import load_model
from tests.exporting import models


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A project with a base model of emoji and its scores."""
    place = tmp_path_factory.mktemp("run")
    models.of_classes(place / "artifacts/train")
    (place / "artifacts/train/manifest.json").write_text("{}", "utf-8")
    data = {"metadata": {"attribution": "CC BY-SA 4.0", "splits": {"train": {"records": 90}}}}
    digest = hashlib.sha256(b"{}").hexdigest()
    for stage, manifest in (("prepare", data), ("evaluate", {"inputs": {"train": digest}})):
        (place / "artifacts" / stage).mkdir()
        (place / "artifacts" / stage / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    (place / "reports/prepare").mkdir(parents=True)
    source = {"params": {"data": {"source": {"name": "emoji"}}}}
    (place / "reports/prepare/source.json").write_text(json.dumps(source), "utf-8")
    (place / "reports/evaluate").mkdir()
    rows = ["sampler,extractor,metric,samples,value,low,high,bias,std"]
    rows += ["base,net,fd_eval,1000,0.5,0.1,0.2,0.3,", "student_8,net,fd_eval,1000,0.7,,,,"]
    (place / "reports/evaluate/scores.csv").write_text("\n".join(rows), "utf-8")
    return place


def test_settings_say_how_to_draw(run):
    heun = requested.sampler_named("heun")
    how = {"sampler": heun, "steps": 4, "guidance": 0.5, "interval": (-1.0, 7.0)}
    settings = models.exported(run / "artifacts/train", **how).settings
    assert settings["sampler"] == {"name": "heun"}
    assert (settings["steps"], settings["guidance"]) == (4, 0.5)
    assert settings["interval"] == [-1.0, 7.0]
    assert settings["prediction"] == "v"


def test_a_student_draws_with_its_own_sampler(tmp_path):
    model = models.saved(tmp_path, models.ConditionSpec(), student_steps=2, student_eta=0.5)
    settings = models.exported(model).settings
    assert settings["sampler"] == {"name": "posterior", "eta": 0.5}
    assert settings["steps"] == 2
    with pytest.raises(SampleError, match="a student has learned its teacher's guidance"):
        models.exported(model, guidance=1.0)


def test_guidance_by_another_model_is_refused(run):
    with pytest.raises(ExportError, match="an export has one network: give --guidance G"):
        models.exported(run / "artifacts/train", guidance=1.0, negative_model="step 4")


def test_what_is_known_comes_from_the_run(run):
    about = About.of(load_model(run / "artifacts/train").trained, "cc-by-sa-4.0")
    assert (about.license, about.source, about.attribution) == (
        "cc-by-sa-4.0",
        "emoji",
        "CC BY-SA 4.0",
    )
    (score,) = about.scores
    assert (score.sampler, score.samples, score.value, score.interval) == (
        "base",
        1000,
        0.5,
        (0.1, 0.2),
    )


def test_scores_of_other_weights_are_left_out(run):
    manifest = run / "artifacts/train/manifest.json"
    manifest.write_text('{"seed": 1}', "utf-8")
    about = About.of(load_model(run / "artifacts/train").trained)
    manifest.write_text("{}", "utf-8")
    assert about.scores == ()
    assert about.images == {"train": 90}


def test_of_a_folder_elsewhere_nothing_is_known(tmp_path):
    about = About.of(load_model(models.unconditional(tmp_path)).trained)
    assert about == About()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "m", "--to", "out", "--format", "tensorflow"], "found 'tensorflow'; expected"),
        (["export", "m", "--to", ".", "--format", "torch"], "is no export"),
        (["import", "m", "--to", "out"], "expected a folder that `sid2 export` wrote"),
    ],
)
def test_an_error_is_one_line_and_writes_nothing(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    assert main.main(arguments) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert [one.name for one in tmp_path.iterdir()] == ["m"]


def test_the_card_has_scores_with_n_and_interval_and_the_attribution(run):
    exported = models.exported(run / "artifacts/train")
    about = About.of(exported.trained)
    form = formats.of_name("torch", installed=False)
    text = card.text(exported, form, about, [Difference("draw", 2e-6)])
    front = YAML(typ="safe").load(text.split("---\n")[1])
    (metric,) = front["model-index"][0]["results"][0]["metrics"]
    assert metric["value"] == 0.5
    assert metric["name"] == "fd_eval (base), N = 1,000, 90 % interval 0.1 to 0.2"
    assert "| `fd_eval` | 1,000 | 0.5 (0.1 to 0.2) |" in text
    assert "must keep: CC BY-SA 4.0." in text
    assert "class_labels=['cat', 'dog']" in text
