import errno
import io
import json
import os
import struct
import subprocess
import sys
import threading
import warnings
from dataclasses import replace

import numpy as np
import PIL
import pytest
from PIL import Image

from sid2core.data.decode.decoding import Recipe
from sid2core.data.errors import Unusable
from tests.data import encoded, pictures

RGB8 = Recipe(8, 8, 3, "adm", "white", "exact", 10**6)
GREY8 = replace(RGB8, channels=1)


def decoded(content, recipe=RGB8):
    return recipe.image(io.BytesIO(content)).image


LOSSLESS = {
    "PNG": {},
    "BMP": {},
    "GIF": {},
    "WEBP": {"lossless": True},
}


@pytest.mark.parametrize("form", LOSSLESS)
def test_formats_that_lose_nothing_come_back_whole(form):
    levels = np.repeat(pictures.noise(8, 8, 1)[..., None] // 16 * 16, 3, axis=2)
    content = encoded.saved(levels, form, **LOSSLESS[form])
    found = RGB8.image(io.BytesIO(content))
    np.testing.assert_array_equal(found.image, levels)
    assert found.image.flags.writeable
    assert found.size == (8, 8)
    assert found.captions == ()


def test_a_bmp_of_runs():
    levels = pictures.noise(8, 8, 1)
    expected = np.stack([levels // 2, 255 - levels, levels], axis=-1)
    np.testing.assert_array_equal(decoded(encoded.bmp_rle(levels)), expected)


@pytest.mark.parametrize("recipe", [RGB8, GREY8])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg_is_what_pillow_decodes(recipe, options):
    content = encoded.saved(pictures.noise(8, 8), "JPEG", **options)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB" if recipe is RGB8 else "L"))
    np.testing.assert_array_equal(decoded(content, recipe), expected.reshape(recipe.shape))


STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
    9: lambda upright: upright,
}
"""How a camera stores an upright picture under each value of the EXIF tag; 9 means nothing."""


def oriented(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_applied(orientation, form):
    upright = pictures.noise(8, 11)
    stored = np.ascontiguousarray(STORED[orientation](upright))
    content = encoded.saved(stored, form, exif=oriented(orientation), **LOSSLESS[form])
    found = RGB8.image(io.BytesIO(content))
    np.testing.assert_array_equal(found.image, upright[:, 1:9])
    assert found.size == (11, 8)


def test_damaged_exif_turns_nothing():
    levels = pictures.noise(8, 8)
    for block in [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense", b"\0"]:
        content = encoded.saved(levels, "PNG", exif=block)
        np.testing.assert_array_equal(decoded(content), levels)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(form):
    frames = [Image.new("L", (8, 8), level) for level in (40, 80, 120)]
    options = {"save_all": True, "append_images": frames[1:], **LOSSLESS[form]}
    assert (decoded(encoded.saved(frames[0], form, **options), GREY8) == 40).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_array_is_taken_as_a_file_is(channels):
    levels = pictures.noise(20, 13, channels)
    recipe = replace(RGB8, background="tomato", crop="centre")
    expected = recipe.image(io.BytesIO(encoded.saved(levels, "PNG")))
    for array in [levels, levels[..., None]] if channels == 1 else [levels]:
        found = recipe.of_array(array)
        np.testing.assert_array_equal(found.image, expected.image)
        assert found.size == expected.size == (13, 20)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((8, 8), np.float32), "float32 of shape"),
        (np.zeros(8, np.uint8), r"uint8 of shape \(8,\); expected uint8 \[h, w\] or"),
        (np.zeros((8, 8, 2), np.uint8), r"\(8, 8, 2\)"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"\(1, 8, 8, 3\)"),
        (np.zeros((0, 8), np.uint8), "no pixels: 8x0"),
        (
            np.zeros((1001, 1000), np.uint8),
            "1000x1001 pixels are more than data.max_pixels 1000000",
        ),
    ],
)
def test_arrays_that_are_no_picture_are_unusable(array, reason):
    with pytest.raises(Unusable, match=reason):
        RGB8.of_array(array)


@pytest.mark.parametrize("crop", ["adm", "centre", "squash"])
def test_scaled_decoding_stays_close(crop):
    exact = Recipe(64, 64, 3, crop, "white", "exact", 10**6)
    scaled = replace(exact, jpeg="scaled")
    for seed in range(4):
        content = encoded.saved(pictures.photograph(400, 500, seed), "JPEG", quality=90)
        one, other = (decoded(content, recipe).astype(int) for recipe in (exact, scaled))
        assert 0 < np.abs(one - other).mean() < 0.8, "levels of 255"
        assert 10 * np.log10(255**2 / np.square(one - other).mean()) > 48, "dB"


@pytest.mark.parametrize("orientation", [1, 6])
def test_scaled_decoding_leaves_twice_the_target(orientation):
    recipe = Recipe(8, 16, 3, "adm", "white", "scaled", 10**6)
    for size, same in [((31, 63), True), ((32, 63), True), ((31, 64), True), ((32, 64), False)]:
        upright = pictures.noise(*size)
        stored = np.ascontiguousarray(STORED[orientation](upright))
        content = encoded.saved(stored, "JPEG", exif=oriented(orientation))
        scaled = recipe.image(io.BytesIO(content))
        exact = replace(recipe, jpeg="exact").image(io.BytesIO(content))
        assert (scaled.image == exact.image).all() == same
        assert scaled.size == exact.size == size[::-1]


def whole(form):
    return encoded.saved(pictures.noise(32, 32), form)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"<svg/>", r"no image of a known format \(JPEG, PNG, WebP, GIF, BMP, TIFF"),
        (b"RIFF1234AVI LIST", "not a WEBP file"),
        (whole("JPEG")[:-200], "truncated"),
        (whole("PNG")[:-1200], "truncated"),
        (whole("WEBP")[:200], "could not create decoder"),
        (whole("BMP")[:100], "truncated"),
        (whole("GIF")[:-300], "."),
    ],
)
def test_what_is_no_whole_image_is_unusable_and_says_why(content, reason):
    with pytest.raises(Unusable, match=reason) as caught:
        decoded(content)
    assert "\n" not in str(caught.value)


def test_a_jpeg_padded_with_zeros_is_not_taken_for_a_whole_one():
    content = whole("JPEG")
    exif = oriented(1)
    exif[0x010E] = "\xff\xd9"  # as a thumbnail in the header has it
    marked = encoded.saved(pictures.noise(32, 32), "JPEG", exif=exif)
    for one in (content, marked):
        for lost in (100, 500, len(one) // 2):
            with pytest.raises(Unusable, match="no end mark|truncated"):
                decoded(one[:-lost] + bytes(lost))


@pytest.mark.parametrize("more", [b"\0", bytes(3 << 20), b"trailer", b"x" * (1 << 20) + b"\xff"])
def test_what_follows_a_jpeg_does_not_matter(more):
    np.testing.assert_array_equal(decoded(whole("JPEG") + more), decoded(whole("JPEG")))


def test_an_end_mark_across_two_blocks_is_seen():
    content = whole("JPEG")
    scans = content.index(b"\xff\xda") + 14
    filler = bytes((1 << 20) - 1 - (len(content) - 2 - scans))
    moved = content[:-2] + filler + content[-2:] + b"trailer"
    np.testing.assert_array_equal(decoded(moved), decoded(content))


def giant(form):
    """A picture whose header says 10,000 x 10,000."""
    if form == "PNG":
        header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
        return whole(form)[:8] + encoded.chunk(b"IHDR", header) + whole(form)[33:]
    if form == "WEBP":
        frames = [Image.fromarray(pictures.noise(32, 32, seed=seed)) for seed in (0, 1)]
        content = encoded.saved(frames[0], form, save_all=True, append_images=frames[1:])
        assert content[12:16] == b"VP8X"
        return content[:24] + 2 * (10_000 - 1).to_bytes(3, "little") + content[30:]
    content = bytearray(whole(form))
    frame = content.find(b"\xff\xc0") + 5
    place, layout = {"GIF": (6, "<HH"), "BMP": (18, "<ii"), "JPEG": (frame, ">HH")}[form]
    struct.pack_into(layout, content, place, 10_000, 10_000)
    return bytes(content)


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "JPEG", "WEBP"])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(form):
    with pytest.raises(Unusable, match="10000x10000 pixels are more than data.max_pixels 1000000"):
        decoded(giant(form))


def test_the_limit_is_the_recipes_and_not_the_processs(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for form in ("PNG", "JPEG", "BMP"):
        assert decoded(whole(form)).shape == (8, 8, 3)
    assert decoded(whole("PNG"), replace(RGB8, max_pixels=32 * 32)).shape == (8, 8, 3)
    with pytest.raises(Unusable, match="32x32 pixels are more than data.max_pixels 1023"):
        decoded(whole("PNG"), replace(RGB8, max_pixels=32 * 32 - 1))
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("crop", ["adm", "centre", "squash"])
def test_a_single_pixel_is_a_picture(crop):
    content = encoded.saved(np.array([[[1, 2, 3]]], np.uint8), "PNG")
    assert (decoded(content, replace(RGB8, crop=crop)) == [1, 2, 3]).all()


MEMORY = """
import io, sys
import numpy as np
from sid2core.data.decode.decoding import Recipe
from tests.data import encoded

side = 1500
levels = np.zeros((side, side, 4), np.uint8) + np.arange(side, dtype=np.uint16)[:, None] % 256
form, crop, target = sys.argv[1], sys.argv[2], int(sys.argv[3])
content = {
    "JPEG": lambda: encoded.saved(levels[..., :3].astype(np.uint8), "JPEG"),
    "PNG": lambda: encoded.saved(levels.astype(np.uint8), "PNG"),
    "deep": lambda: encoded.png(levels * 257, 16),
    "WEBP": lambda: encoded.saved(levels.astype(np.uint8), "WEBP", method=0),
    "strip": lambda: encoded.png(levels.reshape(1, -1, 4)),
}[form]()
del levels
recipe = Recipe(target, target, 3, crop, "white", "exact", side * side)
recipe.image(io.BytesIO(encoded.saved(np.zeros((9, 9, 4), np.uint8), "PNG")))

def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024

open("/proc/self/clear_refs", "w").write("5")
before = peak()
try:
    recipe.image(io.BytesIO(content))
except Exception as error:
    print(error, file=sys.stderr)
print((peak() - before) / side**2)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="reads Linux's peak memory")
@pytest.mark.parametrize(
    ("form", "crop", "target", "bound"),
    [
        ("JPEG", "adm", 64, 16),
        ("PNG", "adm", 1499, 16),
        ("WEBP", "centre", 64, 24),
        ("deep", "squash", 64, 40),
        ("strip", "centre", 64, 16),
        ("strip", "adm", 64, 16),
    ],
)
def test_memory_is_bounded_by_the_number_of_pixels(form, crop, target, bound):
    """Bytes a pixel; freed memory goes back at once so that none of it hides what is taken."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", MEMORY, form, crop, str(target)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert 3 < float(done.stdout) < bound, done.stderr


class Failing(io.BytesIO):
    """A file on a disk that fails from a byte on, or for which there is no memory."""

    def __init__(self, content, error, place):
        super().__init__(content)
        self._error, self._place = error, place

    def read(self, size=-1):
        if size < 0 or self.tell() + size > self._place:
            raise self._error
        return super().read(size)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
@pytest.mark.parametrize("place", [0, 50])
@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), MemoryError()], ids=["disk", "memory"]
)
def test_a_failing_disk_and_want_of_memory_blame_no_image(form, place, error):
    with pytest.raises(type(error)) as caught:
        RGB8.image(Failing(whole(form), error, place))
    assert caught.value is error


def test_real_files_are_read_alike(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(whole("JPEG"))
    with path.open("rb") as file:
        np.testing.assert_array_equal(RGB8.image(file).image, decoded(whole("JPEG")))
        assert not file.closed


def noisy():
    """A picture of whose EXIF block Pillow complains: its second tag's value lies nowhere."""
    tags = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack(">HHII", 0x010F, 2, 255, 65280)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + tags + bytes(4)
    return encoded.saved(pictures.noise(8, 8), "PNG", exif=exif)


def test_decoders_warnings_are_not_shown_and_filters_stay_as_they_were():
    with pytest.warns(UserWarning, match=r"."):
        Image.open(io.BytesIO(noisy())).getexif().get(0x0112)
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        decoded(noisy())
    assert not shown
    assert warnings.filters == before


class Slow(io.BytesIO):
    """A file at whose first byte its reader waits for another thread."""

    def __init__(self, content, here, there):
        super().__init__(content)
        self._here, self._there = here, there

    def read(self, size=-1):
        self._here.set()
        assert self._there.wait(10)
        return super().read(size)


def test_threads_that_decode_at_once_leave_the_filters_as_they_were():
    before = list(warnings.filters)
    first, second, done = (threading.Event() for _ in range(3))
    files = [Slow(noisy(), first, second), Slow(noisy(), second, done)]
    threads = [threading.Thread(target=RGB8.image, args=(file,)) for file in files]
    threads[0].start()
    assert first.wait(10)
    threads[1].start()  # enters while the first is inside, and leaves after it
    threads[0].join(10)
    assert warnings.filters != before
    done.set()
    threads[1].join(10)
    assert warnings.filters == before


def test_metadata_name_every_choice_and_fit_into_a_manifest():
    metadata = replace(RGB8, background="red").metadata
    assert json.loads(json.dumps(metadata)) == metadata
    assert metadata["background"] == "#ff0000"
    assert metadata["pillow"] == PIL.__version__
    assert metadata["luma"] == "ITU-R 601-2"
    assert None not in metadata.values()
    for name, choice in [("crop", "centre"), ("jpeg", "scaled")]:
        assert metadata[name] != choice
        assert replace(RGB8, **{name: choice}).metadata[name] == choice
