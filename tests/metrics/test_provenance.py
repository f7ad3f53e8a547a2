import pytest

from sid2core.metrics import provenance
from sid2core.metrics.errors import MetricsError

OURS = {
    "extractor": "inception",
    "extractor_digest": "ab",
    "mode": "tf1",
    "shape": [8, 8, 3],
    "crop": "adm",
    "image_format": "lossless",
}
OUTSIDE = {"extractor": "inception", "mode": "tf1", "declared": ["extractor", "mode"]}


def test_comparable_but_for_what_describes():
    provenance.check_comparable(OURS | {"split": "train"}, OURS | {"split": "eval"})
    provenance.check_comparable(OURS | {"data": "x"}, OURS)
    assert provenance.unchecked(OURS, OURS | {"split": "eval"}) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extractor": "classifier"}, "extractor"),
        ({"extractor_digest": "cd"}, r"extractor_digest \('ab' against 'cd'\)"),
        ({"mode": "torch"}, r"mode \('tf1' against 'torch'\)"),
        ({"shape": [9, 9, 1]}, "shape"),
        ({"crop": "centre"}, "crop"),
        ({"image_format": "jpeg"}, r"image_format \('lossless' against 'jpeg'\)"),
        ({"resize": "bicubic"}, r"resize \(None against 'bicubic'\)"),
    ],
)
def test_others_are_refused_by_name(change, message):
    with pytest.raises(MetricsError, match=message):
        provenance.check_comparable(OURS, OURS | change)
    provenance.check_comparable(OURS, OURS | change, despite=list(change))


def test_what_both_state_is_checked_of_outside_too():
    with pytest.raises(MetricsError, match="image_format"):
        provenance.check_comparable(OURS, OUTSIDE | {"image_format": "jpeg"})


def test_several_differences_are_reported_at_once():
    with pytest.raises(MetricsError, match="differ in crop .*, mode "):
        provenance.check_comparable(OURS, OURS | {"mode": "clean", "crop": "squash"})


def test_what_is_unknown_of_outside_passes_and_is_named():
    provenance.check_comparable(OURS, OUTSIDE)
    expected = ["crop", "extractor_digest", "image_format", "shape"]
    assert provenance.unchecked(OURS, OUTSIDE) == provenance.unchecked(OUTSIDE, OURS) == expected


def test_extractor_and_mode_are_never_unknown():
    outside = {"extractor": "inception", "declared": ["extractor"]}
    with pytest.raises(MetricsError, match=r"mode \('tf1' against None\)"):
        provenance.check_comparable(OURS, outside)
    with pytest.raises(MetricsError, match=r"extractor \(None against 'inception'\)"):
        provenance.check_comparable({"mode": "tf1", "declared": ["mode"]}, OURS)


def test_what_a_person_declares_is_marked():
    declaration = {"mode": "tf1", "extractor": "inception"}
    assert provenance.declared({}, declaration, "a.npz") == OUTSIDE


def test_a_complete_file_needs_no_declaration_and_stays_complete():
    assert provenance.declared(OURS, {"extractor": "inception"}, "a.npz") == OURS


def test_declarations_add_up():
    found = provenance.declared(OUTSIDE, {"crop": "adm"}, "a.npz")
    assert found["declared"] == ["extractor", "mode", "crop"]
    assert found["crop"] == "adm"


def test_a_declaration_that_the_file_contradicts_is_refused():
    with pytest.raises(MetricsError, match=r"a\.npz has mode 'tf1' \(expected 'clean'\)"):
        provenance.declared(OURS, {"mode": "clean"}, "a.npz")


def test_files_without_an_extractor_name():
    with pytest.raises(MetricsError, match="does not say by which extractor"):
        provenance.declared({}, {"mode": "tf1"}, "a.npz")
