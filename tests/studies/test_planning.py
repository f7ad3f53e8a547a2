"""Which runs are queued: what is missing, and nothing that would compute the same stage twice."""

import pytest

from sid2core.config import yaml_edit
from sid2core.studies import planning, queue
from sid2core.studies.planning import State
from tests.studies import studies

STUDENTS = {
    "variants": {"one": {"distill.steps": [1]}, "two": {"distill.steps": [2]}},
    "claims": [{"words": "w", "order": ["two", "one"]}],
}


def state(finished=(), waiting=(), active=None):
    return State(frozenset(finished), frozenset(waiting), active or {})


def names(runs):
    return [run.name for run in runs]


def labels(runs):
    return [f"{run.variant}{run.seed}" for run in runs]


def test_names_are_those_of_git_and_change_with_the_parameters():
    first, *_ = studies.all_runs()
    again, *_ = studies.all_runs(scale="other words")
    other, *_ = studies.all_runs(params={"train.steps": 31})
    assert first.name.startswith("two-sigmoid-s0-")
    assert first.name == again.name != other.name


def test_a_changed_variant_changes_only_its_own_names():
    before = studies.all_runs()
    edm = {"diffusion.loss.name": "edm", "train.steps": 31}
    after = studies.all_runs(variants=studies.STUDY["variants"] | {"edm": edm})
    changed = [one.variant for one in after if one.name not in names(before)]
    assert changed == ["edm"] * 3


def test_a_parameter_that_no_stage_up_to_the_target_reads_changes_no_name():
    one = studies.all_runs(
        target="train",
        measure=[{"name": "loss", "path": "reports/train/metrics.json:loss"}],
    )
    other = studies.all_runs(
        target="train",
        measure=[{"name": "loss", "path": "reports/train/metrics.json:loss"}],
        params={"eval.samples": 50},
    )
    assert names(one) == names(other)


def test_students_share_the_training():
    runs = studies.all_runs(**STUDENTS)
    one, two = runs[0], runs[3]
    shared = {name for name in one.stages if one.stages[name] == two.stages[name]}
    assert {"prepare", "text", "reference", "train", "guidance_search"} <= shared
    assert not {"distill", "evaluate"} & shared


def test_the_weights_of_the_search_share_the_training():
    weights = {f"w{one}": {"guidance_search.weights": [float(one)]} for one in (1, 2)}
    runs = studies.all_runs(variants=weights, claims=[{"words": "w", "order": ["w1", "w2"]}])
    shared = {name for name in runs[0].stages if runs[0].stages[name] == runs[3].stages[name]}
    assert "train" in shared
    assert "guidance_search" not in shared


def test_the_first_runs_are_one_of_each_seed():
    """The variants of a seed share its data and its extractor, which one of them makes."""
    assert labels(planning.startable(studies.all_runs(), state())) == [
        "sigmoid0",
        "sigmoid1",
        "sigmoid2",
    ]


def test_a_run_starts_when_another_has_made_what_both_need():
    runs = studies.all_runs()
    first = runs[0].name
    waiting = names(runs[1:3])
    at_train = state(waiting=waiting, active={first: "train"})
    assert labels(planning.startable(runs, at_train)) == []  # reference comes after train
    at_search = state(waiting=waiting, active={first: "guidance_search"})
    assert labels(planning.startable(runs, at_search)) == ["edm0"]
    done = state(finished=[first], waiting=waiting)
    assert labels(planning.startable(runs, done)) == ["edm0"]


def test_students_wait_for_the_training_that_they_share():
    runs = studies.all_runs(**STUDENTS)
    active = {runs[0].name: "train", runs[1].name: "distill"}
    assert labels(planning.startable(runs, state(active=active))) == ["one2", "two1"]


def test_nothing_starts_where_all_is_finished():
    runs = studies.all_runs()
    assert planning.startable(runs, state(finished=names(runs))) == []


def test_a_task_that_disappeared_is_missing_again():
    runs = studies.all_runs()
    gone = state(finished=names(runs[1:]))
    assert names(planning.startable(runs, gone)) == [runs[0].name]


def test_time_left_is_that_of_the_runs_that_ended():
    assert planning.seconds_left([], 4, 2) is None
    assert planning.seconds_left([10.0, 20.0], 5, 2) == 45.0


VALUES = [
    (None, "null"),
    (True, "true"),
    (1e-05, "1e-05"),
    ([[-3.0, 5.0], []], "[[-3.0,5.0],[]]"),
    ("/data/my pets, [old] = 1", "'/data/my pets, [old] = 1'"),
    ("it's", r"'it\'s'"),
    ([{"name": "ddim", "nfe": [4, 8]}], "[{name:'ddim',nfe:[4,8]}]"),
]


@pytest.mark.parametrize(("value", "text"), VALUES)
def test_settings_in_the_grammar_of_set_param(value, text):
    assert queue.settings({"a": {"b": 0, "c": 1}}, {"a": {"b": value, "c": 1}}) == [f"a.b={text}"]


def test_dvc_reads_the_settings_back(tmp_path):
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "params.yaml"
    path.write_text("a: {b: 0}\n", encoding="utf-8")
    overlay = {"a": {f"k{number}": value for number, (value, _) in enumerate(VALUES)}}
    apply_overrides(path, [f"+{one}" for one in queue.settings({"a": {"b": 0}}, overlay)])
    assert yaml_edit.load(path.read_text(encoding="utf-8")) == {"a": {"b": 0, **overlay["a"]}}
