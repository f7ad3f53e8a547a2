"""What a folder or a file of the user holds, without any parameter."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sid2core.config import presets, yaml_edit
from sid2core.data.errors import DataError
from sid2core.data.prepare import survey
from tests import tiny
from tests.data import pictures, videos

BASE = yaml_edit.merged(tiny.PARAMS, presets.read("digits", tiny.ROOT / "conf").params)


def draw(path, *, size=(40, 30), colour=(200, 30, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def found(path):
    return survey.survey(str(path), BASE)


def test_class_folders_of_pictures(tmp_path):
    for name, count in (("cat", 5), ("dog", 3)):
        for index in range(count):
            draw(tmp_path / name / f"{index}.png")
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    made = found(tmp_path)
    assert made.source == {"name": "folder", "folder": {"path": str(tmp_path), "eval_path": None}}
    assert (made.train, made.eval, made.problems) == (8, None, 1)
    assert made.class_names == ("cat", "dog")
    assert (made.smallest_class, made.side, made.channels) == (3, 30, 3)
    assert made.condition.classes == 2


def test_pictures_without_folders_are_unconditional_and_grey_is_seen(tmp_path):
    for index in range(4):
        draw(tmp_path / f"{index}.jpg", colour=(90, 90, 90))
    made = found(tmp_path)
    assert made.channels == 1
    assert not made.condition


def test_a_class_of_trains_is_no_split(tmp_path):
    assert survey.source_of(str(pictures.folder(tmp_path, {"train": 2, "bus": 2, "car": 2}))) == {
        "name": "folder",
        "folder": {"path": str(tmp_path), "eval_path": None},
    }


@pytest.mark.parametrize(("train", "held_out"), [("train", "val"), ("Training", "test")])
def test_folders_of_splits_are_the_splits(tmp_path, train, held_out):
    for split, count in ((train, 4), (held_out, 2)):
        for name in ("cat", "dog"):
            for index in range(count):
                draw(tmp_path / split / name / f"{index}.png")
    made = found(tmp_path)
    assert made.source["folder"] == {
        "path": str(tmp_path / train),
        "eval_path": str(tmp_path / held_out),
    }
    assert (made.train, made.eval) == (8, 4)


def test_arrays_and_parquet_of_splits_are_known_by_their_ending(tmp_path):
    np.savez(
        tmp_path / "digits.npz",
        images=np.zeros((6, 28, 28, 1), np.uint8),
        labels=np.arange(6) % 2,
    )
    made = found(tmp_path / "digits.npz")
    assert (made.source["name"], made.train, made.side, made.channels) == ("arrays", 6, 28, 1)
    folder = tmp_path / "hub"
    draw(folder / "one.png")
    content = (folder / "one.png").read_bytes()
    (folder / "one.png").unlink()
    for split in ("train", "test"):
        rows = [
            {"image": {"bytes": content, "path": "one.png"}, "label": row % 2} for row in range(4)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}-00000-of-00001.parquet")
    made = found(folder)
    assert made.source["parquet"] == {
        "path": str(folder / "train-*.parquet"),
        "eval_path": str(folder / "test-*.parquet"),
    }
    assert (made.train, made.eval) == (4, 4)


def test_a_path_that_is_not_there_and_a_folder_without_pictures_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"--for .*nowhere: there is no such file or folder"):
        found(tmp_path / "nowhere")
    (tmp_path / "letter.doc").write_text("words")
    with pytest.raises(DataError):
        found(tmp_path / "letter.doc")
    with pytest.raises(DataError):
        found(tmp_path)


def test_captions_are_counted_and_folders_are_then_no_classes(tmp_path):
    for index in range(6):
        draw(tmp_path / ("ab"[index % 2]) / f"{index}.png")
    for index in range(5):
        (tmp_path / ("ab"[index % 2]) / f"{index}.txt").write_text("a red picture")
    made = found(tmp_path)
    assert (made.captioned, made.images_with_captions) == (True, 5)
    assert made.captions == ("a red picture",) * 5
    assert (made.train, made.problems, made.class_names) == (6, 0, ("unlabelled",))


def test_a_folder_of_videos(tmp_path):
    clip = videos.encoded(videos.frames(20) + np.array([9, 0, 0], np.uint8))
    short = videos.encoded(videos.frames(3))
    files = {f"{kind}/{row}.mp4": clip for kind in ("run", "jump") for row in range(3)}
    made = found(videos.write(tmp_path, files | {"run/short.mp4": short, "run/a.txt": b""}))
    settings = {"path": str(tmp_path), "eval_path": None, "frames": 16}
    assert made.source == {"name": "videos", "videos": settings}
    assert (made.train, made.problems, made.side, made.channels) == (7, 1, 32, 3)
    assert made.shape(64) == (16, 64, 64, 3)
    assert made.condition.classes == 2


def test_labels_beside_captions_are_left_out(tmp_path):
    rows = [{"file_name": f"{index}.png", "text": "a cat", "label": index} for index in range(4)]
    for row in rows:
        draw(tmp_path / row["file_name"])
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = found(tmp_path)
    assert (made.captioned, made.class_names) == (True, ("unlabelled",))
