import io
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, features

from sid2core.data.decode import formats
from sid2core.data.decode.decoding import Recipe
from sid2core.data.errors import DataError, Unusable
from sid2core.data.sources import opening
from sid2core.data.sources.protocol import listed
from tests import tiny
from tests.data import encoded, packs, pictures

LEVELS = pictures.noise(12, 16)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"


def recipe(channels=3):
    return Recipe(12, 16, channels, "centre", "white", "exact", 10**6)


def needs(feature):
    missing = not features.check(feature)
    return pytest.mark.skipif(missing, reason=f"this Pillow is built without {feature}")


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("JPEG", {"quality": 100, "subsampling": 0}),
        ("PNG", {}),
        ("PNG", {"save_all": True, "append_images": [Image.new("RGB", (16, 12))]}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("TIFF", {}),
        pytest.param("TIFF", {"compression": "tiff_lzw"}, marks=needs("libtiff")),
        ("TIFF", {"save_all": True, "append_images": [Image.new("RGB", (16, 12))]}),
        ("TIFF", {"big_tiff": True}),
        pytest.param("JPEG2000", {}, marks=needs("jpg_2000")),
        pytest.param("JPEG2000", {"no_jp2": True}, marks=needs("jpg_2000")),
        ("PPM", {}),
        pytest.param("AVIF", {"quality": 100, "subsampling": "4:4:4"}, marks=needs("avif")),
    ],
)
def test_formats_are_read_by_their_content(tmp_path, form, options):
    path = tmp_path / "picture"
    Image.fromarray(LEVELS).save(path, form, **options)
    with path.open("rb") as file:
        found = recipe().image(file)
        assert not file.closed
    assert found.size == (16, 12)
    lossy = form in ("JPEG", "AVIF")
    np.testing.assert_allclose(found.image.astype(int), LEVELS, atol=12 if lossy else 0)


def test_heic_takes_a_package(monkeypatch):
    start = (28).to_bytes(4, "big") + b"ftypheic" + bytes(4) + b"mif1heicmiaf"
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(Unusable, match="pip install pillow-heif"):
        recipe().image(io.BytesIO(start))


def test_heic_is_read_with_the_package():
    heif = pytest.importorskip("pillow_heif", reason="the extra [heic] is not installed")
    file = io.BytesIO()
    heif.from_pillow(Image.fromarray(LEVELS)).save(file, quality=-1, chroma=444)
    np.testing.assert_allclose(recipe().image(file).image.astype(int), LEVELS, atol=12)


@pytest.mark.parametrize("form", ["TIFF", "PPM", pytest.param("JPEG2000", marks=needs("jpg_2000"))])
def test_sixteen_bits_become_eight(form):
    levels = np.arange(12 * 16, dtype=np.uint16).reshape(12, 16) * 300
    file = io.BytesIO()
    Image.fromarray(levels).save(file, form)
    expected = (levels.astype(int) + 128) // 257
    np.testing.assert_array_equal(recipe(1).image(file).image[..., 0], expected)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_of_more_than_sixteen_bits_are_refused(dtype):
    file = io.BytesIO()
    Image.fromarray(np.full((12, 16), 70_000, dtype)).save(file, "TIFF")
    with pytest.raises(Unusable, match="expected .*8 or 16 bits"):
        recipe(1).image(file)


def test_a_tiff_is_turned_once():
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(LEVELS).save(file, "TIFF", exif=exif)
    found = Recipe(16, 12, 3, "centre", "white", "exact", 10**6).image(file)
    assert found.size == (12, 16)
    np.testing.assert_array_equal(found.image, np.rot90(LEVELS, -1))


def test_text_of_two_megabytes_is_no_damage():
    content = encoded.saved(LEVELS, "PNG")
    data = b"zTXt" + b"comment\0\0" + zlib.compress(b"x" * 2_000_000)
    chunk = (len(data) - 4).to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big")
    found = recipe().image(io.BytesIO(content[:33] + chunk + content[33:]))
    np.testing.assert_array_equal(found.image, LEVELS)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (POINTER, "git lfs pull"),
        (PAGE, "a saved web page"),
        (b"<svg/>", "JPEG 2000, PPM, AVIF, HEIC"),
        (b"P9 text", "no image of a known format"),
    ],
)
def test_other_files_say_what_they_are(content, reason):
    with pytest.raises(Unusable, match=reason):
        recipe().image(io.BytesIO(content))


@pytest.mark.parametrize(("content", "reason"), [(POINTER, "git lfs pull"), (PAGE, "saved web")])
@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("folder", "a.zip"),
        ("folder", "a.tar"),
        ("parquet", "a.parquet"),
        ("webdataset", "a.tar"),
        ("arrays", "a.npy"),
        ("arrays", "a.npz"),
    ],
)
def test_whole_data_sets_say_so_too(tmp_path, source, name, content, reason):
    keys = {"path": str(packs.write(tmp_path / name, content)), "image_size": 4, "channels": 3}
    with pytest.raises(DataError, match=f"{name} is .*{reason}"):
        listed(opening.opened(tiny.params(data=tiny.source(source, **keys)).data)[0])


def test_a_folder_of_files_without_extensions(tmp_path):
    for label, name in enumerate("ab"):
        for number, suffix in enumerate(("", ".jfif", ".unusual")):
            content = encoded.saved(pictures.noise(4, 4, seed=label), "PNG")
            packs.write(tmp_path / name / f"{number}{suffix}", content)
    packs.write(tmp_path / "b/notes.txt", b"text")
    packs.write(tmp_path / "c/readme", b"text")
    keys = {"path": str(tmp_path), "image_size": 4, "channels": 3}
    source = opening.opened(tiny.params(data=tiny.source("folder", **keys)).data)[0]
    entries = listed(source)
    assert source.class_names == ("a", "b")
    usable = [entry for entry in entries if entry.problem is None]
    assert len(usable) == 6
    for entry in usable:
        expected = pictures.noise(4, 4, seed=entry.label)
        np.testing.assert_array_equal(source.read(entry).image, expected)
    assert {entry.key for entry in entries} - {entry.key for entry in usable} == {
        "b/notes.txt",
        "c/readme",
    }


def test_versions_are_those_of_this_pillow():
    found = formats.versions()
    assert None not in found.values()
    assert set(found) <= {"libtiff", "openjpeg", "libavif"}
