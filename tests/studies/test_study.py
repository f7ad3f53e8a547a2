"""The file of a study: its schema, its variants, values that depend on the preset."""

import pytest
from ruamel.yaml import YAML

from sid2core.config import ParamsError
from sid2core.studies import runs, study
from sid2core.studies.errors import StudyError
from sid2core.studies.study import Study
from tests import tiny
from tests.refusals import refused
from tests.studies import studies

FOLDER = tiny.ROOT / "experiments"


@pytest.fixture
def written(tmp_path):
    """Write a study and read it."""

    def make(**changes):
        with (tmp_path / "two.yaml").open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(studies.raw(**changes), file)
        return study.read("two", tmp_path)

    return make


def test_a_study_is_read(written):
    assert set(written().combinations()) == {"sigmoid", "edm"}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"sedes": [0]}, ("sedes", "the nearest known one is seeds")),
        ({"seeds": [0, 0]}, ("seeds repeats an entry",)),
        ({"seeds": [-1]}, ("seeds", "found -1")),
        ({"variants": {"a": {}}}, ("give at least two",)),
        ({"variants": {"a": {"train.steps": 1}, "b": {"train.steps": 1}}}, ("b occurs twice",)),
        ({"variants": {"a": {"seed": 1}, "b": {}}}, ("seed is set by the list seeds",)),
        ({"variants": {"a": {"Train": 1}, "b": {}}}, ("Train", "--set-param")),
        (
            {"axes": {"diffusion.loss.name": ["edm"]}},
            ("diffusion.loss.name is in axes and in variants",),
        ),
        ({"measure": [{"name": "fd"}]}, ("give path or trajectory",)),
        ({"claims": [{"words": "w", "order": ["sigmoid", "emd"]}]}, ("the nearest is edm",)),
    ],
)
def test_a_wrong_study_is_refused(written, changes, parts):
    with refused(StudyError, *parts):
        written(**changes)


def test_a_name_that_does_not_exist_is_refused_with_the_nearest(written, tmp_path):
    written()
    with refused(StudyError, "tow", "the nearest is two"):
        study.read("tow", tmp_path)


def test_axes_combine_with_each_other_and_with_variants():
    one = studies.study(
        variants={},
        axes={"train.steps": [1, 2], "diffusion.loss.sigmoid.bias": [-2.0, {"plus": 1.0}]},
        claims=[{"words": "w", "order": ["steps_1-bias_m2.0", "steps_2-bias_plus_1.0"]}],
    )
    assert one.combinations()["steps_2-bias_plus_1.0"] == {
        "train.steps": 2,
        "diffusion.loss.sigmoid.bias": {"plus": 1.0},
    }
    assert len(one.combinations()) == 4


def test_values_relative_to_the_preset():
    base = {"a": {"steps": 1000, "bias": 4.0, "depth": [2, 3], "dropout": [0.0, 0.1]}}
    layers = [
        {"a.steps": 640},
        {"a.bias": {"plus": -5}, "a.depth": {"plus": 1}, "a.dropout": {"fill": 0.2, "last": 1}},
        {"a.points": [{"times": 0.25, "of": "a.steps"}, {"times": 1.0, "of": "a.steps"}]},
    ]
    assert study.resolved(base, layers) == {
        "a": {
            "steps": 640,
            "bias": -1.0,
            "depth": [3, 4],
            "dropout": [0.0, 0.2],
            "points": [160, 640],
        }
    }


@pytest.mark.parametrize("value", [{"plus": 1}, {"fill": 0.1}, {"times": 2, "off": "a"}])
def test_a_relative_value_without_a_number_is_refused(value):
    with refused(StudyError, "a.b"):
        study.resolved({"a": {"b": None}}, [{"a.b": value}])


def test_an_unknown_parameter_is_refused_with_the_nearest():
    with refused(ParamsError, "variant a", "train.stps", "train.steps"):
        studies.all_runs(
            variants={"a": {"train.stps": 3}, "b": {}},
            claims=[{"words": "w", "order": ["a", "b"]}],
        )


def test_a_measure_that_the_target_does_not_write_is_refused():
    with refused(StudyError, "reports/evaluate/metrics.json", "set target to evaluate"):
        studies.all_runs(target="train")


@pytest.mark.parametrize("name", study.names(FOLDER))
def test_the_studies_that_are_there(name):
    one = study.read(name, FOLDER)
    for preset in (None, "imagenet64"):
        every = runs.all_of(name, one, preset, tiny.ROOT)
        assert len(every) == 3 * len(one.combinations())


def test_the_schema_accepts_what_it_dumps():
    one = studies.study()
    assert Study.model_validate(one.model_dump()) == one
