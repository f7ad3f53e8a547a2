"""dvc.yaml says what depends on what; here that is kept true."""

import fnmatch

import pytest
from ruamel.yaml import YAML

from sid2core import config
from sid2core.pipeline import code, dag, launch
from tests.tiny import ROOT

DAG = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES = sorted(DAG["stages"])


def outputs(stage):
    entries = [one for kind in ("outs", "metrics", "plots") for one in stage.get(kind, [])]
    return [next(iter(one)) if isinstance(one, dict) else one for one in entries]


def test_each_stage_depends_on_the_hash_of_its_program_and_on_no_module():
    hashed = {f"artifacts/code/{name}.json" for name in STAGES if name not in code.WITHOUT_HASH}
    assert set(outputs(DAG["stages"]["code"])) == hashed
    for name in STAGES:
        deps = DAG["stages"][name]["deps"]
        own = {one for one in deps if one.startswith("artifacts/code/")}
        assert own == {f"artifacts/code/{name}.json"} & hashed, name
        if name not in code.WITHOUT_HASH:
            assert not [one for one in deps if one.startswith(("sid2core", "stages"))], name


ALWAYS = {name for name in STAGES if DAG["stages"][name].get("always_changed")}
"""Stages that run at every command."""


@pytest.mark.parametrize("name", sorted(set(code.WITHOUT_HASH) - ALWAYS))
def test_the_other_stages_depend_on_the_files_that_they_run(name):
    deps = DAG["stages"][name]["deps"]
    for path in code.Project().modules(name, dag.read()):
        # What every stage shares starts and ends a process, or writes a file.
        if path.startswith(("sid2core/config/", "stages/")):
            assert any(path == one or path.startswith(f"{one}/") for one in deps), path


UNTRACKED = {"runtime"}
"""What cannot change a byte of any result."""


PARTS = {
    *(f"data.{key}" for key in config.Data.model_fields),
    "loader.clip_frames",
    *(f"eval.{key}" for key in config.Eval.model_fields),
    *(f"guidance.{key}" for key in config.Guidance.model_fields),
    *(f"train.{key}" for key in config.Train.model_fields),
}


def parameters():
    """Every section."""
    return set(config.Params.model_fields)


@pytest.mark.parametrize("name", STAGES)
def test_parameters_are_known(name):
    known = parameters() - UNTRACKED | PARTS
    assert set(DAG["stages"][name].get("params", [])) <= known


def test_all_that_shapes_a_result_is_tracked():
    tracked = {one for name in STAGES for one in DAG["stages"][name].get("params", [])}
    # Some keys of sections that `evaluate` tracks whole are of earlier stages too.
    tracked -= PARTS
    assert tracked == parameters() - UNTRACKED


def test_prepare_tracks_all_of_the_data_but_what_later_stages_choose():
    tracked = {one for one in DAG["stages"]["prepare"]["params"] if one.startswith("data.")}
    later = {"data.given_frames"}
    assert tracked == {f"data.{key}" for key in config.Data.model_fields} - later
    for name in ("plan", "train"):
        assert later <= set(DAG["stages"][name]["params"])


def test_the_base_model_and_its_negative_depend_on_nothing_of_each_other():
    train, negative = (DAG["stages"][name] for name in ("train", "train_negative"))
    assert not [one for one in train["params"] + train["deps"] if "train_negative" in one]
    assert "artifacts/train" not in negative["deps"]
    assert not {"train", "train.steps", "train.snapshots", "train.emas"} & {*negative["params"]}


def test_every_dependency_is_a_file_or_an_output():
    made = {one for stage in DAG["stages"].values() for one in outputs(stage)}
    for stage in DAG["stages"].values():
        for one in stage["deps"]:
            assert one in made or (ROOT / one).exists(), one


def test_cached_outputs_are_ignored_by_git():
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    patterns = [line.strip("/") for line in lines if line and not line.startswith("#")]
    for stage in DAG["stages"].values():
        plots = [one for one in stage.get("plots", []) if next(iter(one.values())).get("cache", 1)]
        for one in [*stage.get("outs", []), *plots]:
            path = next(iter(one)) if isinstance(one, dict) else one
            assert any(fnmatch.fnmatch(path, p) or path.startswith(f"{p}/") for p in patterns), path


def test_only_the_look_at_the_source_always_runs_and_it_ends_at_once():
    assert {"source"} == ALWAYS
    assert "source" in launch.QUICK
    assert "artifacts/source.json" in DAG["stages"]["prepare"]["deps"]


def test_nothing_persists_and_no_plain_output_skips_the_cache():
    """Either would lose DVC's run cache for the stage; one that always runs has none."""
    for name in set(STAGES) - ALWAYS:
        for one in DAG["stages"][name].get("outs", []):
            assert not isinstance(one, dict), f"{name}: {one}"


def test_the_schema_has_no_default():
    """Values live in params.yaml, where DVC tracks them; so no stage depends on the schema."""

    def check(model, path):
        for name, field in model.model_fields.items():
            assert field.is_required(), f"{path}{name} has a default"
            if isinstance(field.annotation, type) and issubclass(field.annotation, config.Section):
                check(field.annotation, f"{path}{name}.")

    check(config.Params, "")
