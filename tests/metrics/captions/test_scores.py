"""Retrieval and accuracy of attributes in closed form: vectors of texts are given by hand."""

import numpy as np
import pytest

from sid2core.metrics.captions import scores
from sid2core.metrics.captions.asked import Asked
from sid2core.metrics.captions.extractor import Design


def one_hot(names):
    """A text tower whose vectors are the axes of the space, one for each of ``names``."""

    def encode(texts):
        return np.eye(len(names), dtype=np.float32)[[names.index(one) for one in texts]]

    return encode


NAMES = [f"caption {index:03d}" for index in range(50)]
ENCODE = one_hot(NAMES)


def test_all_some_or_no_images_fit_their_caption():
    captions = [NAMES[index % 40] for index in range(80)]
    fitting = ENCODE(captions)
    assert scores.retrieval(fitting, ENCODE, captions) == 1.0
    assert scores.retrieval(-fitting, ENCODE, captions) == 0.0
    half = np.where(np.arange(80)[:, None] < 20, fitting, -fitting)
    assert scores.retrieval(half, ENCODE, captions) == 0.25


def test_an_image_that_fits_another_caption_fails_where_that_is_a_candidate():
    """Among two captions the other one always is; among 40, in 31 of 39 cases."""
    two = [NAMES[0], NAMES[1]] * 5
    assert scores.retrieval(ENCODE(two[::-1]), ENCODE, two) == 0.0
    captions = [NAMES[index % 40] for index in range(4000)]
    own = np.arange(4000) % 40
    other = ENCODE([NAMES[(index + 1) % 40] for index in range(4000)])
    vectors = 0.9 * ENCODE(captions) + other
    found = scores.retrieval(vectors, ENCODE, captions)
    assert found == pytest.approx(1 - 31 / 39, abs=0.03)
    assert scores.candidates(own, 40).shape == (4000, 31)


def test_equal_captions_are_the_same_and_ties_with_others_are_misses():
    captions = ["caption 000", "caption 000", "caption 001"]
    assert scores.retrieval(ENCODE(captions), ENCODE, captions) == 1.0
    tied = ENCODE(captions) + ENCODE(["caption 001", "caption 001", "caption 000"])
    assert scores.retrieval(tied, ENCODE, captions) == 0.0
    assert scores.retrieval(tied[:2], ENCODE, captions[:2]) is None


@pytest.mark.parametrize("count", [2, 31, 32, 33, 500])
def test_candidates_are_different_and_not_the_own_caption(count):
    own = np.arange(100) % count
    found = scores.candidates(own, count)
    assert found.shape == (100, min(31, count - 1))
    assert 0 <= found.min() <= found.max() < count
    for number, row in zip(own, found, strict=True):
        assert len({*row.tolist(), number}) == len(row) + 1
    np.testing.assert_array_equal(found, scores.candidates(own, count))


VALUES = {"colour": ("red", "blue"), "shape": ("circle", "star", "square")}
DESIGN = Design((4, 4, 3), (8,), 8, 300, 8, VALUES, (("circle", "red"), ("star", "blue")))


def of(colours, shapes, seen, captions=None):
    attributes = {"colour": colours, "shape": shapes}
    asked = Asked(captions or [f"caption {i:03d}" for i in range(len(colours))], attributes)
    table = np.zeros((len(colours), 5), np.float32)
    for row, (colour, shape) in enumerate(seen):
        table[row, VALUES["colour"].index(colour)] = 1
        table[row, 2 + VALUES["shape"].index(shape)] = 1
    vectors = ENCODE(NAMES[: len(colours)])
    return {one.metric: one for one in scores.of(DESIGN, ENCODE, asked, vectors, table)}


def test_attributes_of_seen_and_unseen_pairs():
    found = of(
        ["red", "red", "blue", "blue"],
        ["circle", "star", "star", "square"],
        [("red", "circle"), ("blue", "star"), ("blue", "circle"), ("red", "square")],
    )
    assert {name: (one.value, one.samples) for name, one in found.items()} == {
        "retrieval": (1.0, 4),
        "colour_accuracy": (0.5, 4),
        "colour_accuracy_seen": (1.0, 2),
        "colour_accuracy_unseen": (0.0, 2),
        "shape_accuracy": (0.75, 4),
        "shape_accuracy_seen": (0.5, 2),
        "shape_accuracy_unseen": (1.0, 2),
    }
    assert {one.extractor for one in found.values()} == {"captions"}


def test_without_unseen_pairs_there_is_one_number_and_empty_captions_are_left_out():
    rows = [("red", "circle"), ("blue", "star"), ("red", "circle")]
    found = of(
        [colour for colour, _ in rows],
        [shape for _, shape in rows],
        rows,
        ["caption 000", "caption 001", " "],
    )
    assert {name: (one.value, one.samples) for name, one in found.items()} == {
        "retrieval": (1.0, 2),
        "colour_accuracy": (1.0, 3),
        "shape_accuracy": (1.0, 3),
    }
