import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from sid2core.data.decode import colours
from sid2core.data.decode.decoding import Recipe
from sid2core.data.errors import DataError
from tests.data import encoded, pictures

WHITE = (255, 255, 255)


def decoded(content, channels=3, background="white", size=8):
    recipe = Recipe(size, size, channels, "squash", background, "exact", 10**6)
    return recipe.image(io.BytesIO(content)).image


def over(levels, alpha, background=WHITE):
    """Levels [..., c] of that opacity (0 to 255) over a background."""
    alpha = np.asarray(alpha, float)[..., None] / 255
    return alpha * levels + (1 - alpha) * np.asarray(background)


def tones(light):
    """``255 encode(light)``: sRGB's curve, from light in [0, 1]."""
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("background", ["white", "black", "#10c8a0", "tomato"])
def test_alpha_is_composed_over_the_background(background):
    levels = pictures.noise(8, 8, 4)
    ground = np.asarray(Image.new("RGB", (1, 1), background)).ravel()
    found = decoded(encoded.saved(levels, "PNG"), background=background)
    np.testing.assert_allclose(
        found, over(levels[..., :3], levels[..., 3], ground), rtol=0, atol=0.51
    )


def test_grey_with_alpha():
    levels = pictures.noise(8, 8, 2)
    content = encoded.png(levels)
    found = decoded(content, 1)
    expected = over(levels[..., :1], levels[..., 1], 255)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1.0)
    found = decoded(content, 3, "red")
    expected = over(levels[..., :1].repeat(3, 2), levels[..., 1], (255, 0, 0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.51)


@pytest.mark.parametrize("background", ["", "whit", "#12345", "#12345678", "12, 3, 4", "#ff"])
def test_what_is_no_colour_is_refused_at_once(background):
    with pytest.raises(DataError, match=r"data\.background is '.*'; expected a colour"):
        Recipe(8, 8, 3, "adm", background, "exact", 100)


@pytest.mark.parametrize("clear", [None, 2, bytes([0, 255, 128])])
def test_a_palette_is_looked_up_and_its_transparency_shows_the_background(clear):
    table = np.array([[10, 20, 30], [200, 100, 0], [0, 0, 0]], np.uint8)
    picked = pictures.noise(8, 8, 1) % 3
    image = Image.fromarray(picked)
    image.putpalette(table.ravel().tolist())
    content = encoded.saved(image, "PNG", **({} if clear is None else {"transparency": clear}))
    alphas = {None: [255, 255, 255], 2: [255, 255, 0]}.get(clear, [0, 255, 128])
    expected = over(table, alphas)[picked]
    np.testing.assert_allclose(decoded(content), expected, rtol=0, atol=0.51)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_of_few_bits(bits, interlaced):
    table = pictures.noise(1, 2**bits)[0]
    picked = pictures.noise(8, 8, 1).astype(int) % 2**bits
    chunks = [(b"PLTE", table.tobytes())]
    content = encoded.png(picked, bits, colour=3, interlaced=interlaced, chunks=chunks)
    np.testing.assert_array_equal(decoded(content), table[picked])


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_of_any_depth_and_one_level_of_it_transparent(bits, interlaced):
    most = 2**bits - 1
    levels = np.random.default_rng(0).integers(0, most, (8, 8), endpoint=True)
    grey = np.rint(levels * 255 / most)[..., None]
    content = encoded.png(levels, bits, interlaced=interlaced)
    np.testing.assert_array_equal(decoded(content, 1), grey)
    for clear in {0, most, int(levels[3, 3])}:
        chunks = [(b"tRNS", clear.to_bytes(2, "big"))]
        found = decoded(
            encoded.png(levels, bits, interlaced=interlaced, chunks=chunks), background="red"
        )
        expected = np.where((levels == clear)[..., None], (255, 0, 0), grey)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_are_rounded_not_cut(channels, interlaced):
    levels = np.random.default_rng(channels).integers(0, 2**16, (8, 8, channels))
    expected = np.rint(levels / 257)
    if channels in (2, 4):
        expected = over(expected[..., :-1], expected[..., -1])
    found = decoded(encoded.png(levels, 16, interlaced=interlaced))
    np.testing.assert_allclose(found, expected + np.zeros(3), rtol=0, atol=0.51)


def test_every_level_of_sixteen_bits():
    levels = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    found = np.asarray(colours.narrowed(levels, None))
    np.testing.assert_array_equal(found, np.rint(levels / 257))


def test_one_colour_of_sixteen_bits_transparent():
    levels = np.full((8, 8, 3), (300, 301, 65535))
    levels[0, 0] = (300, 301, 65534)  # the same high bytes
    chunks = [(b"tRNS", encoded.packed(levels[1, 1], 16))]
    found = decoded(encoded.png(levels, 16, chunks=chunks), background="black")
    assert found[0, 0].tolist() == [1, 1, 255]
    assert not found[1:].any()


def test_one_colour_of_eight_bits_transparent():
    levels = pictures.noise(8, 8)
    chunks = [(b"tRNS", encoded.packed(levels[4, 4], 16))]
    found = decoded(encoded.png(levels, chunks=chunks), background="#010203")
    expected = levels.copy()
    expected[4, 4] = (1, 2, 3)
    np.testing.assert_array_equal(found, expected)


def test_grey_and_colours_become_what_is_asked():
    grey, coloured = pictures.noise(8, 8, 1), pictures.noise(8, 8)
    found = decoded(encoded.saved(grey, "PNG"), 3)
    np.testing.assert_array_equal(found, np.stack([grey] * 3, axis=-1))
    np.testing.assert_array_equal(decoded(encoded.saved(grey, "PNG"), 1), grey[..., None])
    luma = (coloured @ np.array([0.299, 0.587, 0.114]))[..., None]
    found = decoded(encoded.saved(coloured, "PNG"), 1)
    np.testing.assert_allclose(found, luma, rtol=0, atol=0.51)


INKS = np.random.default_rng(0).integers(0, 256, (8, 8, 4)).astype(np.uint8)


def inked(inks):
    """``(255 - ink)(255 - black) / 255``."""
    inks = inks.astype(float)
    return (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255


def test_inks_by_formula():
    found = np.asarray(colours.flat(Image.fromarray(INKS, "CMYK"), "RGB", WHITE, None))
    np.testing.assert_allclose(found, inked(INKS), rtol=0, atol=1.0)


def jpeg_of_inks(inks, ycck=False):
    """A JPEG of one colour; with the mark that its four components are YCCK, if so."""
    image = Image.new("CMYK", (8, 8), tuple(inks))
    content = bytearray(encoded.saved(image, "JPEG", quality=100))
    place = content.index(b"Adobe") + 11
    assert content[place] == 0
    content[place] = 2 if ycck else 0
    return bytes(content)


def test_jpegs_of_inks_are_inverted_as_adobe_has_them():
    inks = np.array([60, 200, 10, 90])
    expected = np.broadcast_to(inked(inks), (8, 8, 3))
    np.testing.assert_allclose(decoded(jpeg_of_inks(inks)), expected, rtol=0, atol=2.0)


def test_jpegs_of_ycck():
    """``C, M, Y = RGB(luma, cb, cr)`` by JFIF, and all four are stored inverted."""
    luma, cb, cr, black = 120, 100, 160, 30
    inks = luma + np.array([1.402 * (cr - 128), 0.0, 1.772 * (cb - 128)])
    inks[1] = luma - 0.344136 * (cb - 128) - 0.714136 * (cr - 128)
    content = jpeg_of_inks([255 - luma, 255 - cb, 255 - cr, black], ycck=True)
    expected = np.broadcast_to(inked(np.array([*inks, black])), (8, 8, 3))
    np.testing.assert_allclose(decoded(content), expected, rtol=0, atol=2.0)


def ramp():
    return np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def test_a_profile_of_linear_light_in_closed_form():
    levels = np.stack([ramp(), ramp()[::-1], ramp().T], axis=-1)
    content = encoded.saved(levels, "PNG", icc_profile=encoded.rgb_profile(encoded.LINEAR_TONES))
    np.testing.assert_allclose(decoded(content), tones(levels / 255), rtol=0, atol=1.01)
    grey = encoded.saved(ramp(), "PNG", icc_profile=encoded.grey_profile(encoded.LINEAR_TONES))
    np.testing.assert_allclose(decoded(grey, 1)[..., 0], tones(ramp() / 255), rtol=0, atol=1.01)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_profile_of_swapped_primaries_swaps_them_back(form):
    red, green, blue = encoded.SRGB_PRIMARIES
    profile = encoded.rgb_profile(encoded.SRGB_TONES, (green, blue, red))
    levels = np.repeat(np.repeat(pictures.noise(2, 2), 4, 0), 4, 1)
    options = {"PNG": {}, "JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    content = encoded.saved(levels, form, icc_profile=profile, **options[form])
    found = decoded(content)
    np.testing.assert_allclose(found[..., [1, 2, 0]], levels, rtol=0, atol=3.0)


def test_a_profile_is_applied_as_littlecms_does_it_and_before_alpha():
    profile = encoded.rgb_profile(encoded.LINEAR_TONES)
    levels = pictures.noise(8, 8, 4)
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    plain = ImageCms.profileToProfile(
        Image.fromarray(levels[..., :3]), source, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    found = decoded(encoded.saved(levels, "PNG", icc_profile=profile))
    expected = over(np.asarray(plain), levels[..., 3])
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.51)


def test_a_profile_of_inks_in_closed_form():
    inks = INKS.copy()
    inks[..., 3] = ramp()
    image = Image.fromarray(inks, "CMYK")
    found = np.asarray(colours.flat(image, "RGB", WHITE, encoded.ink_profile()))
    # L* back to light, by the CIE's definition.
    lightness = (100 * (255.0 - ramp()) / 255 + 16) / 116
    light = np.where(lightness > 6 / 29, lightness**3, 3 * (6 / 29) ** 2 * (lightness - 4 / 29))
    np.testing.assert_allclose(found, tones(light)[..., None] + np.zeros(3), rtol=0, atol=1.5)


@pytest.mark.parametrize(
    "profile",
    [
        b"nonsense",
        encoded.rgb_profile(encoded.LINEAR_TONES)[:200],
        encoded.rgb_profile(b"junk" + bytes(8)),
        encoded.grey_profile(encoded.LINEAR_TONES),
        encoded.ink_profile(),
        encoded.profile(b"RGB ", {}),
    ],
    ids=["nonsense", "cut", "no curves", "of grey", "of inks", "empty"],
)
def test_a_profile_that_does_not_fit_is_ignored(profile):
    levels = pictures.noise(8, 8)
    found = decoded(encoded.saved(levels, "PNG", icc_profile=profile))
    np.testing.assert_array_equal(found, levels)


def test_a_profile_of_colours_does_not_fit_grey():
    profile = encoded.rgb_profile(encoded.LINEAR_TONES)
    found = decoded(encoded.saved(ramp(), "PNG", icc_profile=profile), 1)
    np.testing.assert_array_equal(found[..., 0], ramp())


@pytest.mark.parametrize(
    "profile",
    [
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        encoded.rgb_profile(encoded.SRGB_TONES),
    ],
    ids=["by LittleCMS", "by hand"],
)
def test_srgb_in_any_words_changes_nothing(profile):
    levels = pictures.noise(8, 8)
    found = decoded(encoded.saved(levels, "PNG", icc_profile=profile))
    np.testing.assert_array_equal(found, levels)


def test_a_profile_is_read_once():
    colours._to_srgb.cache_clear()
    profile = encoded.rgb_profile(encoded.LINEAR_TONES)
    content = encoded.saved(pictures.noise(8, 8), "PNG", icc_profile=profile)
    first, second = decoded(content), decoded(content)
    np.testing.assert_array_equal(first, second)
    assert colours._to_srgb.cache_info()[:2] == (1, 1)  # hits, misses
