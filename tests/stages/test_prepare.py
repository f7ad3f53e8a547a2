import csv
import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sid2core import config
from sid2core.data.errors import DataError
from sid2core.data.load.dataset import Dataset
from sid2core.data.sources import protocol
from sid2core.data.sources.digits import Digits
from sid2core.pipeline import artifact
from stages import prepare
from tests import tiny
from tests.data import packs, pictures

METRICS = prepare.REPORTS / "metrics.json"
COMMITTED = config.read(Path(__file__).parents[2] / "params.yaml")


def params_with(**data):
    """The project's own parameters, but by one process, which is quicker of so little data."""
    return COMMITTED.model_copy(
        update={
            "data": COMMITTED.data.model_copy(update=data),
            "runtime": COMMITTED.runtime.model_copy(update={"workers": 1}),
        }
    )


PARAMS = params_with()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_everything_of_the_source_arrives_in_one_split_or_the_other():
    prepare.main(params_with(train_fraction=0.7, shard_records=500, row_group_records=64))
    made = artifact.load("prepare")
    parts = [Dataset.open(made, split) for split in ("train", "eval")]
    found = {
        key: (image.tobytes(), int(label))
        for part in parts
        for key, image, label in zip(part.keys, part.images, part.labels, strict=True)
    }
    source = Digits()
    given = [protocol.loaded(source, entry) for entry in protocol.listed(source)]
    assert found == {record.key: (record.image.tobytes(), record.label) for record in given}
    assert sum(map(len, parts)) == len(given)


def test_metadata_and_metrics_say_what_is_there():
    prepare.main(params_with(shard_records=500))
    made = artifact.load("prepare")
    assert made.metadata["shape"] == [8, 8, 1]
    assert made.metadata["class_names"] == list("0123456789")
    assert made.manifest["params"] == {"seed": PARAMS.seed, "data": {"crop": PARAMS.data.crop}}
    assert recorded()["seed"] == PARAMS.seed
    for split, metadata in made.metadata["splits"].items():
        dataset = Dataset.open(made, split)
        assert metadata["records"] == len(dataset)
        assert metadata["per_class"] == np.bincount(dataset.labels, minlength=10).tolist()
    assert len(made.metadata["splits"]["train"]["shards"]) == 4
    metrics = json.loads(METRICS.read_text())
    splits = made.metadata["splits"]
    assert metrics == {
        "train_images": splits["train"]["records"],
        "eval_images": splits["eval"]["records"],
        "classes": 10,
        "rejected_images": 0,
    }
    assert made.path("rejects.csv").read_text() == "split,key,reason\n"
    assert made.metadata["decoding"] == {}


def test_a_second_run_gives_the_same_bytes_and_another_seed_others():
    digests = []
    for params, seed in ((COMMITTED, 0), (PARAMS, 0), (PARAMS, 1)):
        prepare.main(params.model_copy(update={"seed": seed}))
        digests.append(artifact.load("prepare").digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_split_without_records_leaves_the_earlier_artifact():
    prepare.main(PARAMS)
    before = artifact.load("prepare").digest
    with pytest.raises(DataError, match=r"data\.train_fraction 0\.999"):
        prepare.main(params_with(train_fraction=0.999))
    assert artifact.load("prepare").digest == before


def files(source, path, **data):
    """Parameters for a source that reads files."""
    keys = {"path": str(path), "image_size": 6, "channels": 3, "max_reject_fraction": 0.5}
    return tiny.params(data=tiny.source(source, **(keys | data)))


def recorded():
    """The parameters as recorded beside the artifact."""
    return json.loads((prepare.REPORTS / "source.json").read_text(encoding="utf-8"))["params"]


def rejects():
    with artifact.load("prepare").path("rejects.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


def test_a_folder_of_images(tmp_path):
    path = pictures.folder(tmp_path / "images", {"cat": 8, "dog": 12})
    prepare.main(files("folder", path, train_fraction=0.75))
    made = artifact.load("prepare")
    train, held_out = (Dataset.open(made, split) for split in ("train", "eval"))
    assert train.class_names == ("cat", "dog")
    assert train.shape == (6, 6, 3)
    assert len(train) + len(held_out) == 20
    assert len(held_out) > 0
    for part in (train, held_out):
        for key, image, label in zip(part.keys, part.images, part.labels, strict=True):
            seed = (label, int(key[4:7]))
            np.testing.assert_array_equal(image, pictures.noise(6, 6, seed=seed))
    assert made.metadata["decoding"]["crop"] == "adm"
    assert recorded()["data"]["source"]["folder"]["path"] == str(path)


def test_neither_the_location_nor_limits_change_the_artifact(tmp_path):
    path = pictures.folder(tmp_path / "images", {"cat": 8, "dog": 12})
    (path / "dog/broken.png").write_bytes(b"")
    prepare.main(files("folder", path, train_fraction=0.75))
    digest = artifact.load("prepare").digest
    moved = path.rename(tmp_path / "moved")
    changed = {"max_reject_fraction": 0.4, "max_pixels": 10_000}
    prepare.main(files("folder", moved, train_fraction=0.75, **changed))
    assert artifact.load("prepare").digest == digest
    assert recorded()["data"]["source"]["folder"]["path"] == str(moved)
    pictures.save(moved / "dog/000.png", pictures.noise(6, 6, seed=99))
    prepare.main(files("folder", moved, train_fraction=0.75))
    assert artifact.load("prepare").digest != digest


def test_captions_of_any_kind_and_a_change_of_one(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    pets = tmp_path / "pets"
    texts = ["", "🐈" * 10_000, "\u200fחתול", "<script>alert(1)</script>", *map(str, range(16))]
    for number, text in enumerate(texts):
        name = f"{'cat' if number % 2 else 'dog'}/{number:02d}"
        pictures.save(pets / f"{name}.png", pictures.noise(6, 6, seed=number))
        packs.write(pets / f"{name}.txt", text.encode())
    packs.write(pets / "cat/lost.txt", b"a caption without an image")
    prepare.main(files("folder", pets))
    made = artifact.load("prepare")
    assert made.metadata["class_names"] == ["unlabelled"]
    described = made.metadata["captions"]
    assert (described["images"], described["missing"], described["empty"]) == (20, 0, 1)
    assert described["characters"]["max"] == 10_000
    metrics = json.loads(METRICS.read_text())
    assert (metrics["images_without_caption"], metrics["captions_without_image"]) == (0, 1)
    assert "captions: 20 of 20 images, 0 images without; 20 distinct, 1 empty" in caplog.text
    before = everything(made)
    assert {key: found for key, (_, found) in before.items()} == {
        f"{'cat' if number % 2 else 'dog'}/{number:02d}.png": [text]
        for number, text in enumerate(texts)
    }
    packs.write(pets / "cat/05.txt", b"another")
    prepare.main(files("folder", pets))
    after = artifact.load("prepare")
    assert after.digest != made.digest
    image, _ = before["cat/05.png"]
    assert everything(after) == before | {"cat/05.png": (image, ["another"])}


def everything(made):
    """Images and captions of both splits by their keys."""
    parts = [Dataset.open(made, split) for split in ("train", "eval")]
    return {
        key: (image.tobytes(), found)
        for part in parts
        for key, image, found in zip(part.keys, part.images, part.captions, strict=True)
    }


def test_digits_as_files_are_the_digits(tmp_path):
    source = Digits()
    for entry in source.index()[:100]:
        name = f"{entry.label}/{entry.key[7:]}.png"
        pictures.save(tmp_path / "files" / name, source.read(entry).image[..., 0])
    prepare.main(files("folder", tmp_path / "files", image_size=8, channels=1))
    splits = [Dataset.open(artifact.load("prepare"), split) for split in ("train", "eval")]
    images = {entry.key[7:]: source.read(entry).image for entry in source.index()[:100]}
    assert sorted(Path(key).stem for one in splits for key in one.keys) == sorted(images)
    for dataset in splits:
        for key, image in zip(dataset.keys, dataset.images, strict=True):
            np.testing.assert_array_equal(image, images[Path(key).stem])


def test_a_folder_for_each_split(tmp_path):
    train = pictures.folder(tmp_path / "train", {"cat": 3, "dog": 2})
    held_out = pictures.folder(tmp_path / "val", {"cat": 1, "dog": 2})
    prepare.main(files("folder", train, eval_path=str(held_out)))
    metrics = json.loads(METRICS.read_text())
    counts = {"train_images": 5, "eval_images": 3, "classes": 2, "rejected_images": 0}
    assert metrics == counts | {"eval_images_in_train": 3}  # pictures.folder draws them equal


def test_frames_become_clips(tmp_path):
    lengths = {f"{name}/{clip}": 7 for name in ("run", "jump") for clip in range(4)}
    path = pictures.clips(tmp_path / "clips", lengths | {"run/short": 6})
    prepare.main(files("frames", path, frames=3, frame_stride=3, train_fraction=0.5))
    made = artifact.load("prepare")
    assert made.metadata["shape"] == [3, 6, 6, 3]
    parts = [Dataset.open(made, split) for split in ("train", "eval")]
    assert sum(map(len, parts)) == 8
    for part in parts:
        assert part.shape == (3, 6, 6, 3)
        assert (part.images == np.array([0, 3, 6]).reshape(3, 1, 1, 1)).all()
    ((_, key, reason),) = rejects()
    assert (key, reason) == ("run/short", "6 frame(s); 3 at stride 3 need 7")
    assert json.loads(METRICS.read_text())["rejected_images"] == 1


def test_what_cannot_be_used_is_listed_with_its_reason_and_the_rest_goes_on(tmp_path):
    path = pictures.folder(tmp_path / "images", {"cat": 8, "dog": 8})
    (path / "cat/000.png").write_bytes(b"")
    (path / "dog/007.png").unlink()
    (path / "dog/007.png").symlink_to("nowhere.png")
    prepare.main(files("folder", path, train_fraction=0.5))
    found = {key: reason for _, key, reason in rejects()}
    assert found == {
        "cat/000.png": "the file is empty",
        "dog/007.png": "No such file or directory",
    }
    metadata = artifact.load("prepare").metadata["splits"]
    assert {split: metadata[split]["rejected"] for split in metadata} == {
        split: sum(reject[0] == split for reject in rejects()) for split in ("train", "eval")
    }
    metrics = json.loads(METRICS.read_text())
    assert metrics["rejected_images"] == 2
    assert metrics["train_images"] + metrics["eval_images"] == 14


def test_a_second_run_over_files_gives_the_same_bytes(tmp_path):
    path = pictures.folder(tmp_path / "images", {"cat": 8, "dog": 8}, size=20, suffix=".jpg")
    digests = []
    for _ in range(2):
        prepare.main(files("folder", path))
        digests.append(artifact.load("prepare").digest)
    assert digests[0] == digests[1]


def test_a_run_that_fails_midway_leaves_the_earlier_artifact(tmp_path):
    path = pictures.folder(tmp_path / "images", {"cat": 4, "dog": 4})
    prepare.main(files("folder", path, train_fraction=0.5))
    before, metrics = artifact.load("prepare").digest, METRICS.read_text()
    for name in (path / "dog").iterdir():
        name.write_bytes(b"")
    with pytest.raises(DataError, match="no image for train in 1 .* such as 'dog'; 3 were set"):
        prepare.main(files("folder", path, train_fraction=0.5))
    assert artifact.load("prepare").digest == before
    assert METRICS.read_text() == metrics
    assert [item.name for item in Path("artifacts").iterdir() if item.is_dir()] == ["prepare"]


def test_a_tar_that_lost_its_end_stops_and_leaves_the_earlier_artifact(tmp_path):
    """Also where more may be set aside: what is lost cannot be counted."""
    images = {f"{name}/{row}.png": packs.png(row, 6) for name in ("cat", "dog") for row in range(4)}
    path = packs.write(tmp_path / "a.tar", packs.tar(images))
    prepare.main(files("folder", path, train_fraction=0.5))
    before = artifact.load("prepare").digest
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"dog/3.png")])
    with pytest.raises(DataError, match=r"a\.tar ends at byte \d+ without the mark of a tar's end"):
        prepare.main(files("folder", path, train_fraction=0.5, max_reject_fraction=1.0))
    assert artifact.load("prepare").digest == before


def test_progress_is_reported(tmp_path, capsys):
    path = pictures.folder(tmp_path / "images", {"cat": 4, "dog": 4})
    prepare.main(files("folder", path, train_fraction=0.5))
    assert "prepare: 100%" in capsys.readouterr().err


def test_the_table_of_classes_is_always_printed(tmp_path, caplog):
    path = pictures.folder(tmp_path / "images", {"9": 4, "10": 4})
    with caplog.at_level(logging.INFO):
        prepare.main(files("folder", path, train_fraction=0.5))
    (table,) = (text for text in caplog.messages if text.startswith("entries by class"))
    rows = [line.split() for line in table.splitlines()[2:4]]
    assert [row[:2] for row in rows] == [["0", "9"], ["1", "10"]]
    metadata = artifact.load("prepare").metadata
    assert metadata["class_names"] == ["9", "10"]
    counts = [metadata["splits"][split]["per_class"] for split in ("train", "eval")]
    assert [[int(row[2]) for row in rows], [int(row[3]) for row in rows]] == counts


def test_a_filtered_set_of_hugging_face_keeps_the_classes_that_it_uses(tmp_path):
    rows = {"image": [packs.png(row) for row in range(40)], "label": [1, 3] * 20}
    names = {"info": {"features": {"label": {"names": ["a", "b", "c", "d"]}}}}
    made = pa.table(rows).replace_schema_metadata({"huggingface": json.dumps(names)})
    pq.write_table(made, tmp_path / "a.parquet")
    prepare.main(files("parquet", tmp_path / "a.parquet", train_fraction=0.5))
    dataset = Dataset.open(artifact.load("prepare"), "train")
    assert dataset.class_names == ("b", "d")
    for key, label in zip(dataset.keys, dataset.labels, strict=True):
        assert label == int(key[-7:]) % 2


def test_names_with_line_ends_and_escapes_stay_on_one_line(tmp_path, caplog):
    path = pictures.folder(tmp_path / "images", {"cat\n\x1b[31m": 4, "dog": 4})
    (path / "dog/a\nb.png").write_bytes(b"")
    with caplog.at_level(logging.INFO):
        prepare.main(files("folder", path, train_fraction=0.5))
    assert "\x1b" not in caplog.text
    assert r"cat\n\x1b[31m" in caplog.text
    ((_, key, _),) = rejects()
    assert key == r"dog/a\nb.png"
