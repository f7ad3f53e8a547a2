"""The page of clips: what plays, what stands still, and what the sections say of clips."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from sid2core.evaluation.clips import clip_table
from sid2core.report import animations, clips
from sid2core.report.read import clip_files, inputs
from sid2core.report.read.clip_files import Clips
from sid2core.report.read.files import InputError
from tests.report import synthetic
from tests.report.test_images import decode
from tests.report.test_page import HOSTILE, Document, build, uris

WORLD = replace(
    synthetic.World(),
    class_names=("left", HOSTILE),
    shape=(6, 8, 8, 1),
    given_frames=2,
    train_records=40,
    eval_records=12,
    kept=8,
    columns=2,
)
PAPER = (0, 0, 0, 0)


def playing(uri: str | None) -> tuple[NDArray[np.uint8], list[int]]:
    """The frames [f, h, w, 4] of an animated WebP that plays without end, and their times."""
    assert uri is not None
    head, _, body = uri.partition(",")
    assert head == "data:image/webp;base64"
    file = Image.open(io.BytesIO(base64.b64decode(body)))
    assert file.info["loop"] == 0
    frames, times = [], []
    for one in ImageSequence.Iterator(file):
        frames.append(np.asarray(one.convert("RGBA")))
        times.append(one.info["duration"])
    return np.stack(frames), times


def cells(canvas: NDArray[np.uint8], rows: int, columns: int, size: int) -> Iterator:
    """(row, column, cell with its margin) of a board whose cells have this edge."""
    margin = gap = max(1, size // 16)
    step = size + 2 * margin + gap
    assert canvas.shape[:2] == (rows * step - gap, columns * step - gap)
    for row in range(rows):
        for column in range(columns):
            top, left = row * step, column * step
            yield row, column, canvas[top : top + step - gap, left : left + step - gap]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write(tmp_path_factory.mktemp("project"), WORLD)


@pytest.fixture(scope="module")
def stored(root: Path) -> dict[str, NDArray]:
    with np.load(root / "artifacts/evaluate" / clip_table.CLIPS) as arrays:
        return dict(arrays)


def test_animations_play_the_real_clip_beside_its_samples(document: Document, stored) -> None:
    moving = [a["src"] for a, _ in document.all("img") if a.get("class") == "moving"]
    assert len(moving) == 5
    for number, uri in enumerate(moving):
        frames, times = playing(uri)
        assert times == [animations.MILLISECONDS] * 5 + [animations.HOLD]
        for time, canvas in enumerate(frames):
            for row, column, cell in cells(canvas, 2, 4, 8):
                own = stored[("interval", "student_8")[row]][number]
                clip = own[column - 1] if column else stored["real"][number]
                np.testing.assert_array_equal(
                    cell[1:-1, 1:-1, :3], np.repeat(clip[time], 3, axis=-1)
                )
                assert (cell[0] == (animations.OUTLINE if time < 2 else PAPER)).all()


def test_film_strips_have_a_row_for_each_clip_and_outline_given_frames(
    document: Document, stored
) -> None:
    found = [a for a, _ in document.all("img") if (a["alt"] or "").startswith("Film strips")]
    assert len(found) == 5
    assert "the given ones outlined" in (found[0]["alt"] or "")
    sequences = [stored["real"][3], *stored["interval"][3], *stored["student_8"][3]]
    for row, time, cell in cells(decode(found[3]["src"] or ""), 7, 6, 8):
        expected = np.repeat(sequences[row][time], 3, axis=-1)
        np.testing.assert_array_equal(cell[1:-1, 1:-1, :3], expected)
        assert (cell[:, 0] == (animations.OUTLINE if time < 2 else PAPER)).all()


def test_reduced_motion_shows_the_last_frames(document: Document, stored) -> None:
    sources = [a for a, _ in document.all("source")]
    assert [a["media"] for a in sources] == ["(prefers-reduced-motion: reduce)"] * 5
    for _, column, cell in cells(decode(sources[0]["srcset"] or ""), 2, 4, 8):
        if column == 0:
            np.testing.assert_array_equal(cell[1:-1, 1:-1, :1], stored["real"][0, -1])
    order = [tag for tag, _, section in document.tags if section == "clips"]
    assert order.count("picture") == 5
    # The browser takes the first source that fits: it must come before the animation.
    assert all(
        order[i + 1 : i + 3] == ["source", "img"] for i, tag in enumerate(order) if tag == "picture"
    )


def test_the_section_says_what_is_shown(document: Document) -> None:
    words = document.words("clips")
    for part in (
        "3 samples of each, by Guidance in an interval, Student, 8 steps; neither is selected",
        "given the first 2 of 6 frames, which are outlined, and drew the others",
        "Clip 1, left",
        f"Clip 2, {' '.join(HOSTILE.split())}",
        "3: Guidance in an interval",
        "PSNR of each predicted frame against the real clip, the mean over 7 clips",
        "Solid: mean of 4 samples",
        "copy of the last given frame",
    ):
        assert part in words
    assert "#clips" in [a["href"] for a, section in document.all("a") if section == "head"]
    assert [section for _, section in document.all("svg")].count("clips") == 1
    assert not list(document.all("script"))


def test_other_sections_speak_of_clips(document: Document) -> None:
    head = document.words("head")
    assert (
        "draw the other 4 frames of a clip from its first 2: grey clips of 6 frames of 8 × 8"
        in head
    )
    assert "40 training clips of" in head
    assert "not FVD" in head
    assert "Of each clip the last frame is shown; further down clips play" in document.words(
        "samples"
    )
    assert "Clips of both splits, and their numbers per class" in document.words("data")
    assert "Nearest training clips" in document.words("memorisation")
    assert "over the pixels of all frames, given ones too, scaled" in document.words("memorisation")


def test_grids_show_last_frames_and_the_records_of_their_rows(
    document: Document, root: Path
) -> None:
    found = uris(document, "samples")
    with np.load(root / "artifacts/evaluate/grids.npz") as arrays:
        last = arrays["base"][:, :, -1]
    held_out = inputs.read(synthetic.params(), root).held_out.take([0, 1])
    for uri, expected in ((found[0], last), (found[-1], held_out[:, None, -1])):
        picture = decode(uri)[..., 0]
        for row, column in np.ndindex(expected.shape[:2]):
            cell = picture[9 * row : 9 * row + 8, 9 * column : 9 * column + 8]
            np.testing.assert_array_equal(cell, expected[row, column, ..., 0])


def test_neighbours_show_frames_from_top_to_bottom(document: Document, root: Path) -> None:
    with np.load(root / "artifacts/evaluate/interval.npz") as arrays:
        first = arrays["images"][0]
    shown = [decode(uri)[..., 0] for uri in uris(document, "memorisation")]
    strip = np.stack([picture for picture in shown if picture.shape == (4 * 9 - 1, 8)][4])
    frames = [strip[9 * row : 9 * row + 8] for row in range(4)]
    np.testing.assert_array_equal(np.stack(frames), first[[0, 1, 3, 5], ..., 0])


def test_every_picture_has_a_text(document: Document) -> None:
    assert all(a["alt"] for a, _ in document.all("img"))
    alts = [a["alt"] for a, s in document.all("img") if s == "clips"]
    assert len(set(alts)) == len(alts) == 10


def test_whole_clips_without_given_frames(tmp_path: Path) -> None:
    root = synthetic.write(tmp_path, replace(WORLD, given_frames=0, example_clips=1))
    document = Document(build(root))
    words = document.words("clips")
    assert "A sample has the condition of the real clip; no frame is given" in words
    assert "Error over time" not in words
    (uri,) = (a["src"] for a, _ in document.all("img") if a.get("class") == "moving")
    assert not (playing(uri)[0] == animations.OUTLINE).all(-1).any()
    assert "draw grey clips of 6 frames" in document.words("head")


def test_the_page_is_small_whatever_the_clips(root: Path, monkeypatch) -> None:
    monkeypatch.setattr(clips, "MOST_BYTES", 2**18)
    noise = np.random.default_rng(0).integers(0, 256, (9, 20, 72, 72, 1), dtype=np.uint8)
    samples = {name: np.repeat(noise[:, None], 3, axis=1) for name in ("base", "student_8")}
    made = Clips(noise, np.zeros(9, np.int32), 2, samples, None)
    shown = clips.view(replace(inputs.read(synthetic.params(), root), clips=made))
    assert shown is not None
    assert (len(shown["items"]), shown["all"]) == (1, 9)
    assert (shown["reduced"], shown["columns"], shown["frames"]) == ("36 × 36", 16, 20)
    size = sum(len(one[kind]) for one in shown["items"] for kind in ("moving", "still", "strip"))
    # Base64 takes 4 characters for 3 bytes; the film strips are less than the animation.
    assert size < 2 * 4 / 3 * clips.MOST_BYTES


def test_malformed_clips_are_refused(root: Path) -> None:
    found = inputs.read(synthetic.params(), root).evaluate
    message = r"clips.npz is malformed: real is uint8.*expected uint8 \[5, samples, 6, 9, 9, 1\]"
    with pytest.raises(InputError, match=message):
        clip_files.read(found, (6, 9, 9, 1))
    found.metadata["clips"].append("student_4")
    with pytest.raises(InputError, match=r"clips.npz is malformed: KeyError.*student_4"):
        clip_files.read(found, (6, 8, 8, 1))


def test_nothing_comes_from_outside(text: str, stored) -> None:
    assert not re.search(r"https?://", re.sub(r"base64,[^\"]*", "", text))
    board = stored["interval"][:2]
    assert animations.moving_uri(board, 2) == animations.moving_uri(board, 2)
