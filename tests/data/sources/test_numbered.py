"""Folders that only divide many images, and the labels of dataset.json."""

import json
import pickle

import pytest

from sid2core.data.errors import DataError
from tests.data import packs, pictures
from tests.data.layouts import found, opened, put

NAMES = [f"{number // 2:05d}/img{number:08d}.png" for number in range(6)]
IMAGES = {name: packs.png(seed) for seed, name in enumerate(NAMES)}


def dataset(labels):
    """The files that dataset_tool.py of StyleGAN and EDM writes."""
    return IMAGES | {"dataset.json": json.dumps({"labels": labels}).encode()}


@pytest.mark.parametrize("kind", ["folder", "zip", "memory.zip"])
def test_labels_of_dataset_json(tmp_path, kind):
    labels = [[name, place % 3] for place, name in enumerate(NAMES)]
    source = opened(put(tmp_path / "data", dataset(labels), kind))
    assert source.class_names == ("0", "1", "2")
    assert list(found(source).values()) == ["0", "1", "2", "0", "1", "2"]
    assert source.fields.label == "labels of dataset.json"
    entries = source.index()
    copy = pickle.loads(pickle.dumps(source))
    assert "labels" not in vars(copy.numbered)
    assert copy.read(entries[0]).image.shape == (4, 4, 3)


def test_names_and_one_hot_labels_of_dataset_json(tmp_path):
    one_hot = [
        [name, [float(place % 3 == label) for label in range(3)]]
        for place, name in enumerate(NAMES[:5])
    ]
    path = put(tmp_path / "data", dataset(one_hot), "folder")
    names = str(packs.write(tmp_path / "names", b"ant\nbee\ncat\n"))
    source = opened(path, class_names=names)
    assert [*found(source).values()] == [
        "ant",
        "bee",
        "cat",
        "ant",
        "bee",
        "dataset.json does not name it",
    ]


def test_dataset_json_without_labels(tmp_path):
    path = put(tmp_path / "data", dataset(None), "zip")
    source = opened(path)
    assert source.class_names == ("unlabelled",)
    assert found(source) == dict.fromkeys(NAMES, "unlabelled")
    labels = packs.write(
        tmp_path / "labels.csv", "".join(f"{name},{name[-5]}\n" for name in NAMES).encode()
    )
    assert opened(path, labels=str(labels)).class_names == ("0", "1", "2", "3", "4", "5")
    assert found(opened(put(tmp_path / "b", dataset([[NAMES[0], 1]]), "zip"), unlabelled=True)) == (
        dict.fromkeys(NAMES, "unlabelled")
    )


@pytest.mark.parametrize("labels", [[[NAMES[0], [0.5, 0.2]]], [7], [[3, 1]]])
def test_labels_of_dataset_json_that_are_no_classes(tmp_path, labels):
    cure = r"dataset\.json has the label .*expected a file's name .*data\.source\.folder\.labels"
    with pytest.raises(DataError, match=cure):
        opened(put(tmp_path / "data", dataset(labels), "zip")).index()


def test_a_dataset_json_of_another_program_or_a_damaged_one(tmp_path):
    pictures.folder(tmp_path, {"a": 1, "b": 1})
    file = packs.write(tmp_path / "dataset.json", b'{"name": "pets"}')
    assert opened(tmp_path).class_names == ("a", "b")
    file.write_bytes(b'{"labels": [')
    with pytest.raises(DataError, match=r"dataset\.json cannot be read .*expected the JSON"):
        opened(tmp_path).index()


def test_folders_of_one_numbered_sequence_are_no_classes(tmp_path):
    path = put(
        tmp_path / "ffhq",
        {f"{n // 2 * 1000:05d}/{n // 2 * 1000 + n % 2:05d}.png": packs.png() for n in range(4)},
        "folder",
    )
    with pytest.raises(
        DataError,
        match=r"one numbered sequence .*data\.unlabelled to true .*data\.classes to folders",
    ):
        opened(path).index()
    assert opened(path, unlabelled=True).class_names == ("unlabelled",)
    assert opened(path, classes="folders").class_names == ("00000", "01000")
    anew = {
        f"{label:05d}/{label:05d}_{n:05d}.ppm": packs.png() for label in range(2) for n in range(2)
    }
    assert opened(put(tmp_path / "signs", anew, "folder")).class_names == ("00000", "00001")
