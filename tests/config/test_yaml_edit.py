import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from sid2core.config import yaml_edit
from sid2core.config.yaml_edit import OverlayError

TEXT = """\
# top
a:
  # of b
  b: 1  # beside b
  # of c
  c:
    - 1
    - 2
  # of d
  d:
    - - 1.0
      - 2.0

# of e
e: word
"""


def changed(text, **values):
    return yaml_edit.write_into(text, values)


def test_a_scalar_is_replaced_and_the_comment_beside_it_stays():
    assert changed(TEXT, a={"b": 2.5}) == TEXT.replace("b: 1  #", "b: 2.5  #")


def test_lists_grow_and_shrink_without_moving_what_follows():
    longer = changed(TEXT, a={"c": [7, 8, 9], "d": [[3.0, 4.0], [5.0, 6.0]]})
    assert "  c:\n    - 7\n    - 8\n    - 9\n  # of d\n" in longer
    assert "  d:\n    - - 3.0\n      - 4.0\n    - - 5.0\n      - 6.0\n\n# of e\ne: word\n" in longer
    assert changed(longer, a={"c": [1, 2], "d": [[1.0, 2.0]]}) == TEXT


def test_an_empty_list_and_back():
    emptied = changed(TEXT, a={"c": []})
    assert "  c: []\n  # of d\n" in emptied
    assert changed(emptied, a={"c": [1, 2]}) == TEXT


@pytest.mark.parametrize("written", ["a:  # mine\nb: 1\n", "a:\n  # mine\nb: 1\n", "a:  # mine"])
def test_nothing_is_null_and_is_written_out(written):
    assert changed(written, a=None) == written.replace("a:", "a: null")


def test_a_list_in_brackets_becomes_a_block():
    assert changed("a: [1, 2]  # mine\nb: 1\n", a=[1, 2]) == "a:\n  - 1\n  - 2  # mine\nb: 1\n"


def test_mappings_in_a_list_become_blocks_and_are_replaced_whole():
    written = "a:\n  - c:\n      - 1\n    d:\n      e: 2\n# next\nb: 1\n"
    assert changed("a: null\n# next\nb: 1\n", a=[{"c": [1], "d": {"e": 2}}]) == written
    assert changed(written, a=None) == "a: null\n# next\nb: 1\n"


def test_comments_inside_a_list_stay_while_it_does_and_else_move_to_its_top():
    text = "a:  # head\n  - 1  # one\n  - 2  # two\nb: 1\n"
    assert changed(text, a=[1, 2]) == text
    moved = changed(text, a=[1, 3])
    assert moved == "a:\n  # head\n  # one\n  - 1\n  - 3  # two\nb: 1\n"
    assert changed(moved, a=[1, 3]) == moved
    assert changed(moved, a=[5]) == "a:\n  # head\n  # one\n  - 5  # two\nb: 1\n"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1.0e-12, "1.0e-12"),
        (1e-05, "1.0e-05"),
        (0.0003, "0.0003"),
        (1.0, "1.0"),
        (True, "true"),
        (None, "null"),
        ("data/train", "data/train"),
        ("Simpler Diffusion", "Simpler Diffusion"),
        ("null", '"null"'),
        ("no", '"no"'),
        ("1.5", '"1.5"'),
        ("a: b # c", '"a: b # c"'),
        ("", '""'),
    ],
)
def test_scalars_are_written_so_that_every_yaml_reads_them_alike(value, written):
    text = changed("a: 0\n", a=value)
    assert text == f"a: {written}\n"
    assert YAML(typ="safe", pure=True).load(text) == {"a": value}


words = st.text(st.characters(exclude_categories=["Cs", "Zl", "Zp"], max_codepoint=0xFFFF))
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | words
lists = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=6)


@settings(max_examples=40, deadline=None)
@given(st.fixed_dictionaries({"b": lists, "c": lists, "d": lists}), lists)
def test_any_value_is_read_back_and_no_comment_is_lost(section, word):
    text = changed(TEXT, a=section, e=word)
    expected = {"a": section, "e": word}
    assert json.dumps(yaml_edit.load(text), sort_keys=True) == json.dumps(expected, sort_keys=True)
    assert [line for line in text.splitlines() if line.lstrip().startswith("# ")] == [
        "# top",
        "  # of b",
        "  # of c",
        "  # of d",
        "# of e",
    ]
    assert changed(text, a=section, e=word) == text


def test_a_key_that_the_file_lacks_is_refused():
    with pytest.raises(OverlayError, match=r"no key a\.x"):
        changed(TEXT, a={"x": 1})
    with pytest.raises(OverlayError, match=r"no key e\.x"):
        changed(TEXT, e={"x": 1})


@pytest.mark.parametrize(
    "elaborate", ["a: &one [1, 2]\nb: *one\n", "a: 1\nb: {c: [1, 2], d: 3}\n", "? a\n: 1\nb: 2\n"]
)
def test_yaml_that_cannot_be_edited_in_place_is_refused_or_right(elaborate):
    """Aliases, sections in braces: the result is either what was asked for, or an error."""
    values = {"a": 5, "b": {"c": [3]}} if "c:" in elaborate else {"a": 5, "b": [3]}
    try:
        text = changed(elaborate, **values)
    except OverlayError:
        return
    assert yaml_edit.load(text) == yaml_edit.merged(yaml_edit.load(elaborate), values)


def test_what_is_no_yaml_is_refused():
    with pytest.raises(OverlayError, match="not valid YAML"):
        yaml_edit.load("a: [1")


def test_differences_tell_value_and_type():
    old = {"a": {"b": 1, "c": [1.0], "d": "x"}, "e": None}
    new = {"a": {"b": 1.0, "c": [1.0], "d": "z"}, "e": True, "f": [1, 2]}
    assert yaml_edit.differences(old, new) == [
        "a.b: 1 -> 1.0",
        "a.d: x -> z",
        "e: null -> true",
        "f: (nothing) -> [1, 2]",
    ]
