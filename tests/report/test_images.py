"""Grids of images as PNG: each cell at its place."""

import base64
import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sid2core.report import images


def decode(uri: str) -> NDArray[np.uint8]:
    """The pixels of a PNG data URI, with alpha last."""
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))


def cells_of(picture: NDArray[np.uint8], rows: int, columns: int, h: int, w: int) -> NDArray:
    """The cells of a decoded grid, found by the gap that its size implies."""
    gap = (picture.shape[0] - rows * h) // max(rows - 1, 1)
    return np.array(
        [
            [
                picture[
                    r * (h + gap) : r * (h + gap) + h,
                    c * (w + gap) : c * (w + gap) + w,
                ]
                for c in range(columns)
            ]
            for r in range(rows)
        ]
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("h", "w"), [(8, 8), (32, 48)])
def test_every_cell_is_at_its_row_and_column(h: int, w: int, channels: int) -> None:
    cells = np.random.default_rng(0).integers(0, 256, (3, 4, h, w, channels)).astype(np.uint8)
    found = cells_of(decode(images.grid_uri(cells)), 3, 4, h, w)
    np.testing.assert_array_equal(found[..., :channels], cells)
    assert (found[..., channels] == 255).all()


def test_the_gap_is_transparent() -> None:
    alpha = decode(images.grid_uri(np.full((2, 2, 32, 32, 1), 9, np.uint8)))[..., 1]
    assert alpha.shape == (66, 66)
    assert not alpha[32:34].any()
    assert not alpha[:, 32:34].any()


def test_an_absent_cell_is_transparent() -> None:
    cells = np.full((2, 2, 8, 8, 3), 200, np.uint8)
    picture = decode(images.grid_uri(cells, np.array([[True, True], [True, False]])))
    found = cells_of(picture, 2, 2, 8, 8)
    assert not found[1, 1].any()
    assert (found[1, 0] == [200, 200, 200, 255]).all()


def test_large_cells_are_averaged() -> None:
    cells = np.random.default_rng(1).integers(0, 256, (1, 1, 256, 256, 3)).astype(np.uint8)
    picture = decode(images.grid_uri(cells))
    expected = cells[0, 0].astype(float).reshape(128, 2, 128, 2, 3).mean((1, 3))
    assert images.shown_size(256, 256) == (128, 128)
    assert np.abs(picture[..., :3] - expected).max() <= 0.5


@pytest.mark.parametrize(
    "samples",
    [np.zeros((1, 2, 8, 8, 2), np.uint8), np.zeros((1, 2, 8, 8, 1), np.float32)],
)
def test_other_arrays_are_refused(samples: NDArray, unchecked: None) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        images.grid_uri(samples)


def test_first_of_classes() -> None:
    labels = np.array([2, 0, 2, 0, 2, 1], np.int32)
    rows, present = images.first_of_classes(labels, np.array([0, 1, 2]), 2)
    assert rows.tolist() == [[1, 3], [5, 0], [0, 2]]
    assert present.tolist() == [[True, True], [True, False], [True, True]]
