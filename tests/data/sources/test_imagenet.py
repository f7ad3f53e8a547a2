"""ImageNet as its tars or extracted, with the validation images' labels in a table."""

import tarfile

import numpy as np
import pytest

from sid2core.data.errors import DataError
from sid2core.data.sources import opening
from tests import tiny
from tests.data import packs, pictures
from tests.data.layouts import found, opened, put

SYNSETS = {"n01440764": 2, "n02012849": 1}
MAPPING = "n02012849 crane\nn01440764 tench, Tinca tinca\nn03126707 crane\n"


def images(synset):
    return {f"{synset}_{row}.JPEG": packs.png(row) for row in range(SYNSETS[synset])}


def train(folder, form):
    """ImageNet's training images: extracted, or as the tar of tars, or a folder with that tar."""
    if form == "extracted":
        for synset in SYNSETS:
            for name, content in images(synset).items():
                packs.write(folder / synset / name, content)
        return folder
    tars = {f"{synset}.tar": packs.tar(images(synset), tarfile.GNU_FORMAT) for synset in SYNSETS}
    path = packs.write(folder / "ILSVRC2012_img_train.tar", packs.tar(tars))
    return folder if form == "folder" else path


@pytest.mark.parametrize("form", ["extracted", "tar", "folder"])
def test_imagenet_is_the_same_extracted_or_not(tmp_path, form):
    path = train(tmp_path / "data", form)
    source = opened(path, "imagenet")
    assert source.class_names == tuple(SYNSETS)
    keys = [f"{synset}/{name}" for synset in SYNSETS for name in images(synset)]
    assert found(source) == {key: key[:9] for key in keys}
    for entry, seed in zip(source.index(), (0, 1, 0), strict=True):
        image = source.read(entry).image
        np.testing.assert_array_equal(image, pictures.noise(4, 4, seed=seed))
    packs.write(tmp_path / "LOC_synset_mapping.txt", MAPPING.encode())
    named = opened(path, "imagenet", class_names=str(tmp_path / "LOC_synset_mapping.txt"))
    assert named.class_names == (
        "n02012849 crane",
        "n01440764 tench, Tinca tinca",
        "n03126707 crane",
    )
    assert [entry.label for entry in named.index()] == [1, 1, 0]


def test_imagenets_other_folders_are_no_classes(tmp_path):
    train(tmp_path, "extracted")
    packs.write(tmp_path / "val/1.JPEG", packs.png())
    packs.write(tmp_path / "notes.txt", b"")
    source = opened(tmp_path, "imagenet")
    assert source.class_names == tuple(SYNSETS)
    assert found(source)["val/1.JPEG"] == "it lies in no class folder"
    assert found(source)["notes.txt"] == "not an image by its name: .txt"


@pytest.mark.parametrize("form", ["extracted", "tar", "folder"])
def test_imagenets_flat_validation_images_take_labels(tmp_path, form):
    members = {f"ILSVRC2012_val_{row:08d}.JPEG": packs.png(row) for row in (1, 2, 3)}
    if form == "extracted":
        val = put(tmp_path / "val", members, "folder")
    else:
        val = packs.write(tmp_path / "val/ILSVRC2012_img_val.tar", packs.tar(members))
        val = val.parent if form == "folder" else val
    csv = (
        "ImageId,PredictionString\n"
        "ILSVRC2012_val_00000001,n02012849 85 1 499 272\n"
        "ILSVRC2012_val_00000002,n01440764 1 2 3 4 n01440764 1 2 3 4\n"
    )
    packs.write(tmp_path / "LOC_val_solution.csv", csv.encode())
    data = tiny.source(
        "imagenet",
        image_size=4,
        channels=3,
        path=str(train(tmp_path / "train", "tar")),
        eval_path=str(val),
        labels=str(tmp_path / "LOC_val_solution.csv"),
    )
    first, second = opening.opened(tiny.params(data=data).data)
    assert first.class_names == second.class_names == tuple(SYNSETS)
    assert len(first.index()) == 3
    assert found(second) == {
        "ILSVRC2012_val_00000001.JPEG": "n02012849",
        "ILSVRC2012_val_00000002.JPEG": "n01440764",
        "ILSVRC2012_val_00000003.JPEG": (
            "data.source.imagenet.labels does not name it, and it lies in no class folder"
        ),
    }
    with pytest.raises(
        DataError, match="data.source.imagenet.labels is null: set it to LOC_val_solution.csv"
    ):
        opened(val if form != "folder" else val / "ILSVRC2012_img_val.tar", "imagenet").index()
