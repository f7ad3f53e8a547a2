import numpy as np
import pytest

from sid2core.conditioning import Condition, ConditionError, ConditionSpec
from sid2core.training.sample_prompts import SampleConditions
from tests.refusals import refused

SPEC = ConditionSpec.of_classes(3, ("cat", "dog", "7"))
USUAL = Condition(label=np.arange(4, dtype=np.int32) % 3)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "classes.txt"


def test_the_file_is_read_each_time(file):
    shown = SampleConditions(USUAL, 4, SPEC, str(file))
    file.write_text("dog\n\n# a comment\n0\n7\n")
    assert shown().label.tolist() == [1, 0, 2, 1]
    file.write_text("cat")
    assert shown().label.tolist() == [0, 0, 0, 0]


def test_without_a_file_the_conditions_are_the_usual_ones():
    assert SampleConditions(USUAL, 4, SPEC)() is USUAL


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "is empty"),
        ("cat\ndoge\n", "'dog'"),
        ("3", "expected 0 to 2"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_before_and_reported_during(
    file, content, named, caplog
):
    if content is not None:
        file.write_text(content)
    shown = SampleConditions(USUAL, 4, SPEC, str(file))
    with refused(ConditionError, "runtime.sample_prompts", str(file), named):
        shown.read()
    assert shown() is USUAL
    assert "samples show the usual conditions" in caplog.text


def test_a_model_without_classes_and_text(file):
    file.write_text("cat")
    with refused(ConditionError, "runtime.sample_prompts", "neither classes nor text"):
        SampleConditions(Condition(), 4, ConditionSpec(()), str(file)).read()


class Echo:
    """Prompts whose tokens are their lengths."""

    def conditions_of(self, prompts, spec):
        return Condition(text=tuple(map(len, prompts)), label=len(spec.kinds))


def test_prompts_leave_other_kinds_null_and_keep_given_frames(file, unchecked):
    file.write_text("a\nbb\n")
    usual = USUAL._replace(given="frames")
    made = SampleConditions(usual, 3, SPEC, str(file), Echo())()
    assert made == Condition(text=(1, 2, 1), label=1, given="frames")
