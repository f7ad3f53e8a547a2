"""YAML that is large, deep or repetitive is refused in one short message, and at once."""

import pytest

from sid2core import config
from sid2core.config import ParamsError, yaml_edit, yaml_read
from sid2core.config.yaml_read import YamlProblem, shown

BILLION = "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghijklm", "bcdefghijklmn", strict=True)
)
UNUSABLE = {
    "deep list": ("[" * 5000, "nested more than 40 deep"),
    "deep mapping": ("".join(f"{' ' * n}a:\n" for n in range(60)), "nested more than 40 deep"),
    "long": ("a: " + "b" * 1_000_000, "found 1,000,003 characters"),
    "aliases of aliases": (f"a: &a [{', '.join('1' * 9)}]\n{BILLION}", "stand for 2.9e+13 values"),
    "an alias of itself": ("a: &a [*a]", "an alias (*name) contains itself"),
    "many digits": ("seed: " + "9" * 5000, "not valid YAML"),
    "no such date": ("seed: 2026-99-99", "not valid YAML"),
    "a tab": ("\tseed: 0", "not valid YAML"),
}


@pytest.mark.parametrize(("text", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_text_beyond_the_limits_is_refused_in_a_short_message(text, reason, tmp_path):
    with pytest.raises(YamlProblem) as caught:
        yaml_read.load(text)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 400
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=r"params\.yaml cannot be used"):
        config.read(path)
    with pytest.raises(yaml_edit.OverlayError):
        yaml_edit.load(text)


def test_aliases_are_read_where_they_stand_for_a_few_values():
    assert yaml_read.load("a: &a [1, 2]\nb: *a\nc: [*a, *a]") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": [[1, 2], [1, 2]],
    }


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, ["x" * 10**6] * 5, {str(n): "y" * 900 for n in range(900)}, b"z" * 999],
)
def test_a_long_value_is_shown_short(value):
    assert len(shown(value)) < 200


def test_an_integer_that_python_does_not_write_is_shown_by_its_size():
    assert shown([2**20_000]) == "[an integer of 20,001 bits]"


@pytest.mark.parametrize("value", ["cosine", 0.1, None, True, [1, 2, 3], {"name": "ddpm"}])
def test_a_short_value_is_shown_whole(value):
    assert shown(value) == repr(value)
