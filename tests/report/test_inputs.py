"""Reading the inputs: errors name a missing or malformed file and the command that makes it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sid2core import atomic
from sid2core.pipeline import artifact
from sid2core.report import page
from sid2core.report.read import inputs
from tests.report import synthetic

REPORTS = {
    "reports/evaluate/samplers.csv": "evaluate",
    "reports/evaluate/trajectory.csv": "evaluate",
    "reports/train/curve.csv": "train",
    "reports/train/metrics.json": "train",
    "reports/guidance_search/grid.csv": "guidance_search",
    "reports/distill/curve.csv": "distill",
    "reports/distill/metrics.json": "distill",
    "reports/reference/metrics.json": "reference",
    "reports/analysis/figure11.csv": "analysis",
    "reports/analysis/figure12.csv": "analysis",
    "reports/analysis/weighting.csv": "analysis",
    "reports/analysis/metrics.json": "analysis",
    "reports/plan/levels.csv": "plan",
    "reports/plan/remat.csv": "plan",
    "reports/plan/terms.csv": "plan",
    "reports/plan/metrics.json": "plan",
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write(tmp_path_factory.mktemp("written"))


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "project")


def read(root: Path) -> inputs.Inputs:
    return inputs.read(synthetic.params(), root)


def check_refused(root: Path, *words: str, by: type[Exception] = artifact.ArtifactError) -> None:
    with pytest.raises(by, match=".*".join(re.escape(word) for word in words)):
        read(root)


def test_everything_is_read(root: Path) -> None:
    found = read(root)
    assert [s.name for s in found.samplers] == ["base", "constant", "interval", "student_8"]
    assert [s.student for s in found.samplers] == [False, False, False, True]
    assert found.baseline.name == "train_images"
    assert (len(found.train), len(found.held_out)) == (120, 40)
    assert found.search.best.fd_train == min(one.fd_train for one in found.search.settings)
    assert found.search.guided is found.search.best
    assert found.commands["student"] == "python -m stages.distill ${item}"
    assert found.commands["report"] == "python -m stages.report\necho done"
    assert found.distill["student_8"] == {"fd_train_512": 3.77}
    assert found.trajectory is None, "there are no snapshots"


def test_further_samplers_have_rows_and_no_samples(tmp_path: Path) -> None:
    found = read(synthetic.write(tmp_path, synthetic.with_named("few_4", "few_8")))
    own = ["base", "constant", "interval", "student_8"]
    assert [s.name for s in found.samplers] == [*own, "few_4", "few_8"]
    assert [s.name for s in found.shown] == own
    text = page.build(found)
    assert text.count("few_8") >= 2, "in the tables"
    assert ">DDIM</text>" in text, "in the chart"


def test_samples_are_read(root: Path) -> None:
    images, labels = inputs.samples_of(read(root), "base")
    assert images.shape == (30, 8, 8, 1)
    assert labels.tolist() == [*range(10)] * 3


@pytest.mark.parametrize(("name", "stage"), REPORTS.items())
def test_a_missing_report_is_named(root: Path, name: str, stage: str) -> None:
    (root / name).unlink()
    check_refused(root, name, "not found", f"dvc repro {stage}")


@pytest.mark.parametrize(("name", "stage"), REPORTS.items())
@pytest.mark.parametrize("content", ["", '{"a": ', "[1]", "a,b\n1,2\n", "\x00"])
def test_a_malformed_report_is_named(root: Path, name: str, stage: str, content: str) -> None:
    (root / name).write_text(content, encoding="utf-8")
    check_refused(root, name, "malformed", f"dvc repro -f -s {stage}")


@pytest.mark.parametrize("stage", ["prepare", "guidance_search", "evaluate"])
def test_a_missing_artifact_is_named(root: Path, stage: str) -> None:
    shutil.rmtree(root / "artifacts" / stage)
    check_refused(root, stage, "not found", f"dvc repro {stage}")


def test_a_swapped_artifact_is_refused(root: Path) -> None:
    with artifact.create("guidance_search", {"other": 1}, root=root / "artifacts") as draft:
        best = root / "artifacts/guidance_search/best.json"
        draft.path("best.json").write_bytes(best.read_bytes())
    check_refused(root, "evaluate was made from guidance_search", "dvc repro evaluate")


def test_distillation_is_optional(root: Path) -> None:
    shutil.rmtree(root / "reports/distill")
    found = read(root)
    assert (found.distill_curve, found.distill) == (None, {})


@pytest.mark.parametrize(
    "content", [None, "stages: [1]", "a: b", "stages: {x: {deps: []}}", "\tstages: {"]
)
def test_stages_must_be_readable(root: Path, content: str | None) -> None:
    path = root / "dvc.yaml"
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    check_refused(root, "dvc.yaml")


def change(path: Path, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    edit(pd.read_csv(path)).to_csv(path, index=False)


def test_rows_must_be_the_samplers_of_evaluate(root: Path) -> None:
    change(root / "reports/evaluate/samplers.csv", lambda table: table.iloc[::-1])
    check_refused(root, "samplers.csv is malformed", "rows are ['train_images'", "dvc repro")


def test_text_in_a_column_of_numbers_is_named(root: Path) -> None:
    change(
        root / "reports/train/curve.csv",
        lambda table: table.astype({"loss": object}).replace({"loss": {table.loss[3]: "much"}}),
    )
    check_refused(root, "curve.csv is malformed: column loss", "'much'")


def test_a_missing_column_is_named(root: Path) -> None:
    change(root / "reports/evaluate/samplers.csv", lambda table: table.drop(columns="nfe"))
    check_refused(root, "samplers.csv is malformed: no column ['nfe']")


def test_a_missing_curve_is_named(root: Path) -> None:
    change(
        root / "reports/analysis/figure12.csv",
        lambda table: table[table.curve != "sigmoid_weighted"],
    )
    check_refused(
        root,
        "figure12.csv is malformed: curves are ['mixture'], expected",
        "dvc repro -f -s analysis",
    )


def add_curve(root: Path, table: str, name: str) -> None:
    change(
        root / f"reports/analysis/{table}.csv",
        lambda old: pd.concat([old, old[old.curve == old.curve.iloc[0]].assign(curve=name)]),
    )


def test_further_sub_bands_may_have_a_weight(root: Path) -> None:
    add_curve(root, "weighting", "weight_LH")
    assert "weight_LH" in set(read(root).low_bit.weighting["curve"])


@pytest.mark.parametrize(("table", "name"), [("weighting", "heavy_LH"), ("figure12", "weight_LH")])
def test_a_curve_of_another_name_is_refused(root: Path, table: str, name: str) -> None:
    add_curve(root, table, name)
    check_refused(root, f"{table}.csv is malformed: curves are", name, "dvc repro -f -s analysis")


@pytest.mark.parametrize(("name", "column"), [("figure11", "eps_error"), ("weighting", "logsnr")])
def test_a_gap_in_a_curve_is_named(root: Path, name: str, column: str) -> None:
    change(
        root / f"reports/analysis/{name}.csv",
        lambda table: table.assign(**{column: table[column].mask(table.index == 3)}),
    )
    check_refused(
        root, f"{name}.csv is malformed: column {column} has rows without a number", "dvc repro"
    )


def test_a_missing_gap_is_named(root: Path) -> None:
    atomic.write_json(root / "reports/analysis/metrics.json", {"figure12_gap_max": 0.2})
    check_refused(root, "analysis/metrics.json is malformed", "'figure12_gap_mean'", "analysis")


def test_a_missing_number_is_named(root: Path) -> None:
    atomic.write_json(root / "reports/train/metrics.json", {"loss": 1, "steps": "many"})
    check_refused(root, "train/metrics.json is malformed", "'steps'")


def test_null_is_unknown(root: Path) -> None:
    path = root / "reports/train/metrics.json"
    atomic.write_json(path, json.loads(path.read_text()) | {"training_pflops": None})
    assert np.isnan(read(root).training["training_pflops"])


@pytest.mark.parametrize(
    ("name", "column", "row", "value", "words"),
    [
        ("levels", "level", 0, 1, "levels are ['1', '1'], expected 0, 1, … in order"),
        ("levels", "kind", 1, "dense", "column kind has ['dense'], expected res|transformer"),
        ("levels", "grid", 0, "8*8", "column grid has ['8*8']"),
        ("levels", "grid", 1, "0x4", "column grid has ['0x4']"),
        ("levels", "parameters", 0, -1, "column parameters must have a number of 0 or more"),
        ("levels", "gflops", 1, None, "column gflops must have a number of 0 or more"),
        ("levels", "gflops", 1, "inf", "column gflops must have a number of 0 or more"),
        ("remat", "remat", 1, "none", "remat is ['none', 'none', 'blocks', 'offload', 'full']"),
        ("remat", "forwards", 2, "three", "column forwards: could not convert"),
        ("remat", "activation_mib_image", 0, None, "column activation_mib_image must have"),
        ("terms", "term", 5, "the compiler's count", "expected XLA's count in the last row"),
        ("terms", "term", 1, "XLA's own", "expected XLA's count in the last row only"),
        ("terms", "gflops", 2, None, "column gflops must have a number in every row"),
    ],
)
def test_a_malformed_plan_is_named(
    root: Path, name: str, column: str, row: int, value: object, words: str
) -> None:
    def edit(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype(object)
        table.loc[row, column] = value
        return table

    change(root / f"reports/plan/{name}.csv", edit)
    check_refused(root, f"plan/{name}.csv is malformed", words, "dvc repro -f -s plan")


@pytest.mark.parametrize("value", [None, -1.0, "much"])
def test_a_plan_without_a_number_is_named(root: Path, value: object) -> None:
    path = root / "reports/plan/metrics.json"
    atomic.write_json(path, json.loads(path.read_text()) | {"state_mib": value})
    check_refused(root, "plan/metrics.json is malformed", "'state_mib'", "dvc repro -f -s plan")


def rewrite(root: Path, stage: str, name: str, content: bytes | None) -> None:
    """Replace a file of an artifact, or drop it, and make the artifact whole again."""
    made = artifact.load(stage, root=root / "artifacts")
    origins = {
        name: artifact.load(name, root=root / "artifacts") for name in made.manifest["inputs"]
    }
    files = {file: made.path(file).read_bytes() for file in made.manifest["files"]}
    files.pop(name)
    if content is not None:
        files[name] = content
    with artifact.create(stage, {}, origins, root=root / "artifacts") as draft:
        draft.metadata |= made.metadata
        for file, old in files.items():
            draft.path(file).write_bytes(old)


def arrays(tmp_path: Path, **values: np.ndarray) -> bytes:
    np.savez(tmp_path / "made.npz", **values)
    return (tmp_path / "made.npz").read_bytes()


@pytest.mark.parametrize(
    "grid",
    [
        np.zeros((10, 4, 8, 8, 1), np.float32),
        np.zeros((9, 4, 8, 8, 1), np.uint8),
        np.zeros((10, 4, 8, 9, 1), np.uint8),
        np.zeros((10, 8, 8, 1), np.uint8),
    ],
)
def test_grids_must_fit_the_data(root: Path, tmp_path: Path, grid: np.ndarray) -> None:
    names = ["base", "constant", "interval", "student_8"]
    rewrite(root, "evaluate", "grids.npz", arrays(tmp_path, **dict.fromkeys(names, grid)))
    check_refused(root, "grids.npz is malformed: base is", "expected uint8 [10, columns, 8, 8, 1]")


def test_a_missing_grid_is_named(root: Path, tmp_path: Path) -> None:
    grid = np.zeros((10, 4, 8, 8, 1), np.uint8)
    rewrite(root, "evaluate", "grids.npz", arrays(tmp_path, base=grid))
    check_refused(root, "grids.npz is malformed: no grid of ['constant', 'interval', 'student_8']")


def test_samples_must_fit_the_data(root: Path, tmp_path: Path) -> None:
    wrong = arrays(tmp_path, images=np.zeros((3, 4, 4, 1), np.uint8), labels=np.zeros(3, np.int32))
    rewrite(root, "evaluate", "base.npz", wrong)
    rewrite(root, "evaluate", "interval.npz", arrays(tmp_path, images=np.zeros(1)))
    found = read(root)
    with pytest.raises(inputs.InputError, match=r"base\.npz is malformed.*expected uint8"):
        inputs.samples_of(found, "base")
    with pytest.raises(inputs.InputError, match=r"interval\.npz is malformed.*labels"):
        inputs.samples_of(found, "interval")


@pytest.mark.parametrize(
    "content", [b"{}", b"not", b'{"best": {"weight": 9, "logsnr_min": 0, "logsnr_max": 1}}']
)
def test_the_best_must_be_of_the_grid(root: Path, content: bytes) -> None:
    rewrite(root, "guidance_search", "best.json", content)
    shutil.rmtree(root / "artifacts/evaluate")
    synthetic._evaluate(
        root / "artifacts",
        synthetic.World(),
        artifact.load("prepare", root=root / "artifacts"),
        artifact.load("guidance_search", root=root / "artifacts"),
    )
    check_refused(root, "best.json is malformed", "dvc repro")


def test_four_channels_are_refused(root: Path) -> None:
    with artifact.create("prepare", {}, root=root / "artifacts") as draft:
        draft.metadata |= {"shape": [16, 8, 8, 4], "class_names": [], "splits": {}}
    check_refused(root, "records of shape [16, 8, 8, 4]", "the page shows images")
