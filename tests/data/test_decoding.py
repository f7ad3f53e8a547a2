import errno
import os

import numpy as np
import pytest
from PIL import Image

from sid2core.data import decoding
from sid2core.data.errors import DataError, Unusable
from tests.data import pictures


def resampled(levels, size, kernel):
    """[h, w] in floats by a separable filter, as wide as the scale when it shrinks.

    Rows come first, and what overshoots is clipped after each pass, as an image of bytes must.
    """
    for axis, length in ((1, size[1]), (0, size[0])):
        scale = levels.shape[axis] / length
        stretch = max(scale, 1.0)
        centres = (np.arange(length)[:, None] + 0.5) * scale
        places = np.arange(levels.shape[axis])[None] + 0.5
        distance = (places - centres) / stretch
        weights = kernel(distance)
        weights /= weights.sum(axis=1, keepdims=True)
        levels = np.moveaxis(np.tensordot(weights, levels, (1, axis)), 0, axis).clip(0, 255)
    return levels


def box(x):
    return np.where((-0.5 < x) & (x <= 0.5), 1.0, 0.0)


def bicubic(x):
    """Keys' kernel with a = -1/2."""
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x**2 + 1, -0.5 * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def adm(levels, size):
    """The crop of ADM written anew, in floats, for one channel [h, w]."""
    levels = levels.astype(float)
    while min(levels.shape) >= 2 * size:
        half = (levels.shape[0] // 2, levels.shape[1] // 2)
        levels = resampled(levels, half, box)
    scale = size / min(levels.shape)
    shape = tuple(round(side * scale) for side in levels.shape)
    levels = resampled(levels, shape, bicubic)
    top, left = ((side - size) // 2 for side in shape)
    return levels[top : top + size, left : left + size]


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (8, 8, 8),
        (16, 16, 8),
        (40, 24, 8),
        (43, 67, 16),
        (62, 92, 8),
        (15, 31, 8),
        (5, 9, 8),
        (100, 33, 16),
    ],
)
def test_the_crop_is_that_of_adm(height, width, size):
    levels = pictures.noise(height, width)
    found = decoding.square(Image.fromarray(levels), size)
    assert found.shape == (size, size, 3)
    assert found.dtype == np.uint8
    for channel in range(3):
        # Pillow rounds to bytes after each pass of each step; a wrong filter is off by tens.
        expected = adm(levels[..., channel], size)
        np.testing.assert_allclose(found[..., channel], expected, rtol=0, atol=2.0)


def test_the_exact_size_stays_as_it_is():
    levels = pictures.noise(8, 8)
    np.testing.assert_array_equal(decoding.square(Image.fromarray(levels), 8), levels)
    np.testing.assert_array_equal(
        decoding.square(Image.fromarray(pictures.noise(11, 8)), 8), pictures.noise(11, 8)[1:9]
    )


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp", "a.gif", "A.PNG", "a.jpeg"])
def test_formats_that_lose_nothing_come_back_whole(tmp_path, name):
    levels = np.repeat(pictures.noise(8, 8, 1)[..., None] // 16 * 16, 3, axis=2)
    # A name need not tell the format: ImageNet has a PNG that is called JPEG.
    options = {"format": "PNG"} if name.endswith("jpeg") else {}
    options |= {"lossless": True} if name.endswith("webp") else {}
    path = pictures.save(tmp_path / name, levels, **options)
    np.testing.assert_array_equal(decoding.read(path, 8, 3), levels)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_pillow_decodes(tmp_path, channels):
    path = pictures.save(tmp_path / "a.JPG", pictures.noise(8, 8))
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB" if channels == 3 else "L"))
    np.testing.assert_array_equal(decoding.read(path, 8, channels), expected.reshape(8, 8, -1))


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


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = pictures.noise(8, 11)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](upright))
    path = pictures.save(tmp_path / "a.png", stored, exif=exif)
    np.testing.assert_array_equal(decoding.read(path, 8, 3), upright[:, 1:9])


def test_damaged_exif_turns_nothing(tmp_path):
    levels = pictures.noise(8, 8)
    for number, block in enumerate([b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense", b"\0"]):
        path = pictures.save(tmp_path / f"{number}.png", levels, exif=block)
        np.testing.assert_array_equal(decoding.read(path, 8, 3), levels)


def test_alpha_is_composed_over_white(tmp_path):
    levels = pictures.noise(8, 8, 4)
    alpha = levels[..., 3:].astype(float) / 255
    expected = alpha * levels[..., :3] + (1 - alpha) * 255
    found = decoding.read(pictures.save(tmp_path / "a.png", levels), 8, 3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1.0)
    levels[..., 3] = 0
    found = decoding.read(pictures.save(tmp_path / "b.png", levels), 8, 1)
    assert (found == 255).all()


def test_grey_with_alpha(tmp_path):
    levels = pictures.noise(8, 8, 2)
    alpha = levels[..., 1:].astype(float) / 255
    expected = alpha * levels[..., :1] + (1 - alpha) * 255
    path = tmp_path / "a.png"
    Image.fromarray(levels, mode="LA").save(path)
    np.testing.assert_allclose(decoding.read(path, 8, 1), expected, rtol=0, atol=1.0)


@pytest.mark.parametrize("clear", [None, 2, bytes([0, 255, 128])])
def test_a_palette_is_looked_up_and_its_transparency_is_white(tmp_path, clear):
    colours = np.array([[10, 20, 30], [200, 100, 0], [0, 0, 0]], np.uint8)
    picked = pictures.noise(8, 8, 1) % 3
    image = Image.fromarray(picked).convert("P")
    image.putdata(picked.ravel().tolist())
    image.putpalette(colours.ravel().tolist())
    image.save(tmp_path / "a.png", **({} if clear is None else {"transparency": clear}))
    alphas = {None: [255, 255, 255], 2: [255, 255, 0]}.get(clear, [0, 255, 128])
    alpha = np.array(alphas)[:, None] / 255
    expected = (alpha * colours + (1 - alpha) * 255)[picked]
    np.testing.assert_allclose(decoding.read(tmp_path / "a.png", 8, 3), expected, rtol=0, atol=1.0)


def test_grey_and_colours_become_what_is_asked(tmp_path):
    grey, colours = pictures.noise(8, 8, 1), pictures.noise(8, 8)
    path = pictures.save(tmp_path / "grey.png", grey)
    np.testing.assert_array_equal(decoding.read(path, 8, 3), np.stack([grey] * 3, axis=-1))
    np.testing.assert_array_equal(decoding.read(path, 8, 1), grey[..., None])
    luma = (colours @ np.array([0.299, 0.587, 0.114]))[..., None]
    found = decoding.read(pictures.save(tmp_path / "colours.png", colours), 8, 1)
    np.testing.assert_allclose(found, luma, rtol=0, atol=1.0)


def test_one_bit_a_pixel(tmp_path):
    bits = pictures.noise(8, 8, 1) > 127
    Image.fromarray(bits).save(tmp_path / "a.png")
    found = decoding.read(tmp_path / "a.png", 8, 1)
    np.testing.assert_array_equal(found[..., 0], np.where(bits, 255, 0))


def test_cmyk(tmp_path):
    ink = np.zeros((8, 8, 4), np.uint8)
    ink[..., 0] = 255  # cyan takes all red
    Image.fromarray(ink, mode="CMYK").save(tmp_path / "a.jpg", quality=100)
    found = decoding.read(tmp_path / "a.jpg", 8, 3)
    np.testing.assert_allclose(found, np.full((8, 8, 3), [0, 255, 255]), rtol=0, atol=3.0)


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    levels = np.random.default_rng(0).integers(0, 2**16, (8, 8)).astype(np.uint16)
    path = pictures.save(tmp_path / "a.png", levels)
    np.testing.assert_array_equal(decoding.read(path, 8, 1)[..., 0], np.rint(levels / 257))
    clear = pictures.save(tmp_path / "b.png", levels, transparency=int(levels[2, 3]))
    found = decoding.read(clear, 8, 3)
    assert found[2, 3].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(found[0, 0], np.rint(levels[0, 0] / 257))


def test_of_an_animation_the_first_frame_counts(tmp_path):
    frames = [Image.new("L", (8, 8), level) for level in (40, 80, 120)]
    for name, options in (("a.gif", {}), ("a.webp", {"lossless": True})):
        path = tmp_path / name
        frames[0].save(path, save_all=True, append_images=frames[1:], **options)
        assert (decoding.read(path, 8, 1) == 40).all()


def whole(path):
    return pictures.save(path, pictures.noise(32, 32)).read_bytes()


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("a.png", lambda path: path.write_bytes(b""), "no image of a known format"),
        ("a.png", lambda path: path.write_text("<svg/>"), "no image of a known format"),
        ("a.jpg", lambda path: path.write_bytes(whole(path)[:-200]), "truncated"),
        ("a.png", lambda path: path.write_bytes(whole(path)[:-1200]), "OSError|SyntaxError"),
        ("a.webp", lambda path: path.write_bytes(whole(path)[:200]), "."),
        ("a.bmp", lambda path: path.write_bytes(whole(path)[:100]), "truncated|OSError"),
        ("a.gif", lambda path: path.write_bytes(whole(path)[:-300]), "."),
        ("a.png", lambda path: path.symlink_to(path.parent / "none.png"), "No such file"),
        ("a.png", lambda path: path.symlink_to(path), "Too many levels"),
        ("a.png", lambda path: path.mkdir(), "not a regular file"),
        ("a.png", os.mkfifo, "not a regular file"),
    ],
)
def test_what_is_no_whole_image_is_unusable_and_says_why(tmp_path, name, make, reason):
    make(tmp_path / name)
    with pytest.raises(Unusable, match=reason) as caught:
        decoding.read(tmp_path / name, 8, 3)
    assert str(tmp_path) not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("side", "kind"), [(12, "Warning"), (16, "Error")])
def test_decompression_bombs_are_unusable(tmp_path, monkeypatch, side, kind):
    path = pictures.save(tmp_path / "a.png", pictures.noise(side, side))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(
        Unusable, match=rf"DecompressionBomb{kind}: .*{side * side} pixels.* limit of"
    ):
        decoding.read(path, 8, 3)


def test_a_strip_that_would_explode_when_resized_is_unusable(tmp_path):
    path = pictures.save(tmp_path / "a.png", pictures.noise(1, 20_000, 1))
    with pytest.raises(Unusable, match="too long: it would have 5120000x256 pixels"):
        decoding.read(path, 256, 3)


def test_a_picture_without_pixels_is_unusable():
    with pytest.raises(Unusable, match="no pixels: 0x4"):
        decoding.square(Image.new("L", (0, 4)), 8)


@pytest.mark.parametrize("where", ["open", "decode"])
def test_a_failing_disk_stops_the_stage_and_blames_no_image(tmp_path, monkeypatch, where):
    path = pictures.save(tmp_path / "a.png", pictures.noise(8, 8))

    def fail(*args, **kwargs):
        raise OSError(errno.EIO, "Input/output error")

    if where == "open":
        monkeypatch.setattr(os, "stat", fail)
    else:
        monkeypatch.setattr(Image.Image, "getexif", lambda self: self)
        monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(DataError, match=r"a\.png failed: Input/output error; see that its disk"):
        decoding.read(path, 8, 3)


def test_running_out_of_memory_blames_no_image(tmp_path, monkeypatch):
    path = pictures.save(tmp_path / "a.png", pictures.noise(8, 8))

    def fail(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(MemoryError):
        decoding.read(path, 8, 3)
