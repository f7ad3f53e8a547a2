import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sid2core.data.errors import DataError
from sid2core.data.sources import classes
from sid2core.data.sources.protocol import Entry
from tests.refusals import UNLABELLED


def write(folder, text):
    path = folder / "file.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_names_are_lines_in_label_order(tmp_path):
    path = write(tmp_path, "\ufeffgolden retriever\r\n\r\n  cat \nn01440764 tench, Tinca tinca\n")
    names = classes.read_names(path, "data.class_names")
    assert names == ("golden retriever", "cat", "n01440764 tench, Tinca tinca")
    assert classes.numbers(names) == {
        "golden retriever": 0,
        "cat": 1,
        "n01440764": 2,
        "n01440764 tench, Tinca tinca": 2,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n \n", "is empty; expected the names of the classes, one a line"),
        ("cat\ndog\ncat\n", "names 'cat' twice"),
        ("n01440764 tench\nn01440764 carp\n", "names 'n01440764' twice"),
        (b"\xff\n", "is no UTF-8 text: .*: save it as UTF-8"),
        (None, "data.class_names .*none not found from .*; expected a text file: set data.class_n"),
    ],
)
def test_bad_files_of_names_are_refused(tmp_path, text, message):
    path = str(tmp_path / "none") if text is None else write(tmp_path, text)
    with pytest.raises(DataError, match=message.replace("UTF-8 text: .*:", "UTF-8 text: .*;")):
        classes.read_names(path, "data.class_names")


@pytest.mark.parametrize(
    ("text", "raw"),
    [("7", 7), (" 07\n", 7), ("-1", -1), ("cat", "cat"), ("", None), (" ", None), ("1.5", "1.5")],
)
def test_text_is_a_number_or_a_name(text, raw):
    assert classes.parsed(text) == raw
    assert classes.parsed("9" * 5000) == "9" * 5000


def test_classes_found_are_ordered_by_number_then_name():
    assert classes.ordered([10, 9, None, "b", -1, "a", 9]) == ("9", "10", "a", "b")
    assert classes.ordered([5, "5"]) == ("5",)
    assert classes.ordered([None, -1]) == ("unlabelled",)


def test_minus_one_is_a_class_of_a_binary_set_only():
    assert classes.ordered([1, -1, None]) == ("-1", "1")
    assert classes.ordered([-1, 0, 1]) == ("0", "1")
    binary = classes.Labels(("-1", "1"), "data.path", listed=False)
    assert [binary.of(raw) for raw in (-1, 1)] == [(0, None), (1, None)]
    assert binary.of(-2) == (-1, "label -2; there are classes 0 to 1")
    assert classes.Labels(("0", "1"), "data.path", listed=False).of(-1)[0] == -1


raws = st.one_of(st.none(), st.integers(-3, 12), st.text("abc\udcff", max_size=2))


@given(st.lists(raws))
def test_a_class_that_was_found_has_its_label(found):
    names = classes.ordered(found)
    labels = classes.Labels(
        names, "data.path", listed=False, labelled=any(raw is not None for raw in found)
    )
    for raw in found:
        label, problem = labels.of(raw)
        if problem is None:
            assert names[label] == ("unlabelled" if raw is None else str(raw))
        else:
            assert label == -1
            assert raw is None or raw == "" or raw == -1 or not classes.is_text(str(raw)) or raw < 0


def test_names_of_either_unicode_form_match():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert classes.ordered([decomposed, composed]) == (composed,)
    assert classes.of_folders([decomposed, composed, "b"]) == ("b", composed)
    assert classes.Labels((composed,), "data.path", listed=False).of(decomposed) == (0, None)


def test_folders_that_are_all_numbers_are_ordered_as_numbers():
    assert classes.of_folders(["10", "9", "1"]) == ("1", "9", "10")
    assert classes.of_folders(["10", "9", "a"]) == ("10", "9", "a")


def test_listed_names_are_counted_by_numbers():
    labels = classes.Labels(("cat", "n01440764 tench", "7"), "data.path", listed=True)
    assert labels.of(1) == labels.of("n01440764") == labels.of("n01440764 tench") == (1, None)
    assert labels.of("7") == (2, None)
    assert labels.of(7) == (-1, "label 7; there are classes 0 to 2")
    assert labels.of(-1) == (-1, "label -1; there are classes 0 to 2")
    assert labels.of("dog") == (-1, "its class 'dog' is not in data.class_names")
    assert labels.of(None) == (-1, UNLABELLED)
    assert classes.Labels(("cat",), "data.path", listed=True).of(None)[0] == -1
    assert classes.Labels(("cat",), "data.path", listed=True, labelled=False).of(None) == (0, None)


def test_empty_classes_are_told_and_kept(caplog):
    entries = [Entry("a", 0), Entry("b", 2, problem="broken"), Entry("c", -1, problem="broken")]
    with caplog.at_level(logging.WARNING):
        assert classes.settled(entries, "xyz", "data.path here", "image", "cure") is entries
    assert caplog.messages == ["data.path here: no image in 2 class(es): y, z"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "data.path here holds no image; found nothing: cure"),
        ([Entry("a", 0, problem="no image: .\x1b\n")], r"found 1 × no image: .\\x1b\\n: cure"),
        (
            [Entry("a", 0, problem="x"), Entry("b", 0, problem="y"), Entry("c", 0, problem="y")],
            "found 2 × y; 1 × x: cure",
        ),
    ],
)
def test_a_source_of_nothing_usable_is_refused(entries, message):
    with pytest.raises(DataError, match=message):
        classes.settled(entries, "xyz", "data.path here", "image", "cure")
