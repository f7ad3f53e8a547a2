import pytest

from sid2core import config
from sid2core.pipeline import artifact, context, dag
from sid2core.pipeline.artifact import ArtifactError
from sid2core.pipeline.dag import DagError
from tests import tiny

DAG = """
stages:
  first:
    cmd: python -m stages.first
    params: [seed, data.source]
    deps: [params.yaml]
    outs: [artifacts/first]
  second:
    params: [seed]
    deps: [artifacts/first]
    outs: [artifacts/second]
  third:
    params: [model, data.source, data.image_size]
    deps: [artifacts/second, artifacts/params.ok, artifacts/first, reports/first.json]
    outs: [artifacts/third]
    plots:
      - reports/third.csv:
          cache: false
"""


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(DAG)


def make(*stages, seed=0):
    params = tiny.params(seed=seed)
    for stage in stages:
        with context.begin(stage, params).create() as draft:
            draft.path("a.txt").write_text(f"{stage} {seed}")


def test_a_stage_has_the_tracked_parameters_and_the_inputs_of_its_row():
    make("first", "second")
    params = tiny.params()
    job = context.begin("third", params)
    assert job.made_by == {
        "model": params.model.model_dump(),
        "data": {
            "source": params.model_dump()["data"]["source"],
            "image_size": params.data.image_size,
        },
    }
    assert set(job.inputs) == {"first", "second"}
    with job.create() as draft:
        draft.path("a.txt").write_text("x")
    manifest = artifact.load("third").manifest
    assert manifest["params"] == job.made_by
    assert manifest["inputs"] == {name: one.digest for name, one in job.inputs.items()}
    assert dag.read()["third"].outs == ("artifacts/third", "reports/third.csv")


def test_inputs_that_were_not_made_from_each_other_are_refused():
    make("first", "second")
    make("first", seed=1)
    with pytest.raises(ArtifactError, match="second was made from first"):
        context.begin("third", tiny.params())


def test_a_tracked_key_that_does_not_exist_is_named(tmp_path):
    (tmp_path / "dvc.yaml").write_text(DAG.replace("data.source]", "data.sorce]"))
    with pytest.raises(DagError, match=r"data\.sorce"):
        context.begin("first", tiny.params())


@pytest.mark.parametrize("text", ["stages: [", "{}", "stages: 3", "- 1"])
def test_a_dag_that_cannot_be_read_is_named(tmp_path, text):
    (tmp_path / "dvc.yaml").write_text(text)
    with pytest.raises(DagError, match=r"dvc\.yaml cannot be read"):
        context.begin("first", tiny.params())


def test_an_unknown_stage_is_named_with_the_known_ones():
    with pytest.raises(DagError, match="no stage fourth; it has first, second, third"):
        context.begin("fourth", tiny.params())


def test_elsewhere_the_dag_of_the_code_is_read(tmp_path):
    (tmp_path / "dvc.yaml").unlink()
    declared = dag.read()["train"]
    assert declared.inputs == ("prepare", "text")
    assert set(dag.tracked(declared.params, tiny.params().model_dump())) <= set(
        config.Params.model_fields
    )
