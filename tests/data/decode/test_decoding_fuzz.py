"""Whatever bytes come, the decoder gives a whole image or says in a line why not, and no more."""

import io
import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sid2core.data.decode import colours
from sid2core.data.decode.decoding import Recipe
from sid2core.data.errors import Unusable
from tests.data import encoded, pictures

RECIPES = [
    Recipe(6, 9, channels, crop, "white", jpeg, 10**5)
    for channels, crop, jpeg in [
        (3, "adm", "exact"),
        (1, "centre", "exact"),
        (3, "squash", "scaled"),
    ]
]
RGB, GREY = pictures.noise(24, 20), pictures.noise(24, 20, 1)
RGBA = pictures.noise(24, 20, 4)
INKS = Image.fromarray(RGBA, "CMYK")
TABLE = Image.fromarray(RGB).quantize(16)
LATER = {"save_all": True, "append_images": [Image.fromarray(RGB[::-1].copy())]}


def exif():
    block = Image.Exif()
    block[0x0112] = 6
    return block


PROFILES = {
    "rgb": encoded.rgb_profile(encoded.LINEAR_TONES),
    "grey": encoded.grey_profile(encoded.SRGB_TONES),
    "inks": encoded.ink_profile(),
}
FILES = {
    "jpeg": encoded.saved(RGB, "JPEG"),
    "jpeg, progressive": encoded.saved(RGB, "JPEG", progressive=True),
    "jpeg, restarts": encoded.saved(RGB, "JPEG", restart_marker_blocks=1),
    "jpeg, grey": encoded.saved(GREY, "JPEG"),
    "jpeg, inks": encoded.saved(INKS, "JPEG", icc_profile=PROFILES["inks"][:600]),
    "jpeg, profile": encoded.saved(RGB, "JPEG", icc_profile=PROFILES["rgb"], exif=exif()),
    "png": encoded.saved(RGB, "PNG", exif=exif()),
    "png, palette": encoded.saved(TABLE, "PNG", transparency=bytes(range(0, 256, 16))),
    "png, animated": encoded.saved(RGB, "PNG", **LATER),
    "png, 2 bits": encoded.png(GREY % 4, 2, interlaced=True, chunks=[(b"tRNS", b"\0\1")]),
    "png, 16 bits": encoded.png(RGB.astype(int) * 257, 16, chunks=[(b"tRNS", bytes(6))]),
    "png, 16 bits, alpha": encoded.png(RGBA.astype(int)[..., :2] * 257, 16, interlaced=True),
    "png, 16 bits, grey": encoded.png(GREY.astype(int) * 257, 16, chunks=[(b"tRNS", b"\0\0")]),
    "gif": encoded.saved(TABLE, "GIF", transparency=3),
    "gif, animated": encoded.saved(TABLE, "GIF", disposal=2, **LATER),
    "bmp": encoded.saved(RGB, "BMP"),
    "bmp, palette": encoded.saved(TABLE, "BMP"),
    "bmp, runs": encoded.bmp_rle(GREY),
    "webp": encoded.saved(RGB, "WEBP", exif=exif()),
    "webp, lossless": encoded.saved(RGBA, "WEBP", lossless=True),
    "webp, animated": encoded.saved(RGB, "WEBP", **LATER),
}
ALL_FILES, ALL_PROFILES = list(FILES.values()), list(PROFILES.values())
STARTS = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF\0\0\0\0WEBPVP8 "]
TELLTALE = re.compile(r" at 0x|/tmp|BytesIO|[^ -~]")


def tried(content, recipe=RECIPES[0]):
    """The image, or None with a fair reason; anything else that is raised fails the test."""
    try:
        found = recipe.image(io.BytesIO(content))
    except Unusable as error:
        reason = str(error)
        assert reason
        assert len(reason) <= 200
        assert not TELLTALE.search(reason), reason
        return None
    assert found.image.shape == recipe.shape
    assert found.image.dtype == np.uint8
    assert min(found.size) >= 1
    assert found.size[0] * found.size[1] <= recipe.max_pixels
    return found.image


@st.composite
def damaged(draw, whole):
    """A valid file with a few pieces changed, removed, doubled, or replaced by another file's."""
    content = bytearray(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        there = slice(place, place + draw(st.sampled_from([1, 1, 1, 2, 4, 16, 200])))
        piece = bytes(content[there])
        other = draw(st.sampled_from(whole))[there]
        noise = st.binary(min_size=len(piece), max_size=len(piece))
        content[there] = draw(noise | st.sampled_from([b"", 2 * piece, bytes(len(piece)), other]))
    return bytes(content)


def anything():
    return st.builds(bytes.__add__, st.sampled_from(STARTS), st.binary(max_size=300))


@settings(max_examples=400, deadline=None)
@given(content=damaged(ALL_FILES), recipe=st.sampled_from(RECIPES))
def test_damaged_files(content, recipe):
    tried(content, recipe)


@settings(max_examples=200, deadline=None)
@given(content=anything(), recipe=st.sampled_from(RECIPES))
def test_random_bytes(content, recipe):
    tried(content, recipe)


def pieces(content, step):
    """Cuts of a file, all of them at its ends."""
    edges = {*range(40), *range(len(content) - 40, len(content))}
    return sorted(edges | set(range(0, len(content), step)))


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_gives_the_whole_picture_or_none(name):
    check_cuts(FILES[name], 23)


def check_cuts(content, step):
    expected = tried(content)
    assert expected is not None
    refused = 0
    for cut in pieces(content, step):
        found = tried(content[:cut])
        refused += found is None
        if found is not None:  # only what no pixel needs was lost: a trailer, or later frames
            np.testing.assert_array_equal(found, expected, err_msg=f"cut at {cut}")
    assert refused > 20


@settings(max_examples=150, deadline=None)
@given(profile=damaged(ALL_PROFILES), mode=st.sampled_from(["L", "RGB", "CMYK"]))
def test_damaged_profiles(profile, mode):
    check_profile(profile, mode)


def check_profile(profile, mode):
    image = Image.new(mode, (3, 2))
    found = colours.flat(image, "RGB", (255, 255, 255), profile)
    assert (found.mode, found.size) == ("RGB", (3, 2))


def test_nothing_is_printed(capfd):
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        for content in FILES.values():
            for place in range(10, len(content), 97):
                tried(content[:place] + bytes(8) + content[place + 8 :])
    assert capfd.readouterr() == ("", "")
    assert not shown


@pytest.mark.slow
class TestThousands:
    """The same for longer."""

    @settings(max_examples=8000, deadline=None)
    @given(content=damaged(ALL_FILES), recipe=st.sampled_from(RECIPES))
    def test_damaged_files(self, content, recipe):
        tried(content, recipe)

    @settings(max_examples=3000, deadline=None)
    @given(content=anything(), recipe=st.sampled_from(RECIPES))
    def test_random_bytes(self, content, recipe):
        tried(content, recipe)

    @settings(max_examples=3000, deadline=None)
    @given(profile=damaged(ALL_PROFILES), mode=st.sampled_from(["L", "RGB", "CMYK"]))
    def test_damaged_profiles(self, profile, mode):
        check_profile(profile, mode)

    @pytest.mark.parametrize("name", FILES)
    def test_every_cut(self, name):
        check_cuts(FILES[name], 1)
