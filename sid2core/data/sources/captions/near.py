"""Names of files that are nearly those of captions."""

from __future__ import annotations

import difflib
import itertools
import os
import re
import urllib.parse
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from sid2core.data.sources.captions import tables
from sid2core.data.sources.fields import CAPTION_KEY

SIDECARS = (".txt", ".caption")
_TABLE = re.compile(
    r"(metadata|meta_(cap|lat|clean)|captions?|prompts?)\.(jsonl?|csv|tsv|parquet|txt)", re.I
)
"""Names of files that probably have captions of many images."""
_COLUMN = re.compile(
    r"(.+[_\-. ])?(captions?|descriptions?|prompts?|texts?|alt)([_\-. ]?\d+|[_\-. ][a-z]{2})?", re.I
)
"""Names of columns that probably have captions, such as ``description`` and ``caption_en``."""
_SHOWN = 5
_MANY = 10_000
"""Names that are compared at most."""
_CLOSE_TABLE, _CLOSE_EXTENSION, _CLOSE_NAME = 0.8, 0.6, 0.8


def of_tables(paths: Iterable[str]) -> Iterator[str]:
    """What to say about ``metadata.json1`` and ``captions.jsonl``; ``paths`` are without use."""
    for path in itertools.islice(paths, _MANY):
        name = path.rpartition("/")[2]
        found = difflib.get_close_matches(name.lower(), tables.NAMES, 1, _CLOSE_TABLE)
        if found and name not in tables.NAMES:
            yield f"{path} is not read; expected {found[0]}"
        elif not found and _TABLE.fullmatch(name):
            yield f"{path} is not read; expected {' or '.join(tables.NAMES)} of file_name and text"


def of_extensions(paths: Iterable[str], stems: Collection[str]) -> Iterator[str]:
    """What to say about files such as ``name.cap``, if ``stems`` has an image of that name."""
    counts, example = Counter[str](), dict[str, str]()
    for path in paths:
        stem, extension = os.path.splitext(path)
        if stem in stems:
            counts[extension] += 1
            example.setdefault(extension, path)
    for extension, count in counts.items():
        found = difflib.get_close_matches(extension.lower(), SIDECARS, 1, _CLOSE_EXTENSION)
        if found and extension.lower() not in SIDECARS:
            yield f"{count} file(s) such as {example[extension]} are not read; expected {found[0]}"


def of_folders(paths: Iterable[str], names: Collection[str]) -> Iterator[str]:
    """What to say about captions that lie in another folder than the images ``names``."""
    stems = (os.path.splitext(path)[0].rpartition("/")[2] for path in paths)
    count = sum(stem in names for stem in stems)
    if count:
        yield f"{count} captions lie in other folders than their images; expected them side by side"


def of_sidecars(paths: Iterable[str], stems: Mapping[str, str]) -> Iterator[str]:
    """What to say about captions such as ``1.png.txt``, and ``IMG.txt`` beside ``img.png``.

    Args:
        paths: captions without an image.
        stems: the path of an image by its own without extension, in small letters.
    """
    counts, example = Counter[str](), dict[str, tuple[str, str]]()
    for path in paths:
        stem = os.path.splitext(path)[0]
        for problem, name in (("extension", os.path.splitext(stem)[0]), ("capitals", stem)):
            image = stems.get(name.lower())
            if image is not None and (problem == "capitals" or stem == image):
                counts[problem] += 1
                example.setdefault(problem, (path, image))
    for problem, count in counts.items():
        path, image = example[problem]
        expected = f"{os.path.splitext(image)[0]}{os.path.splitext(path)[1]}"
        yield f"{count} caption(s) such as {path} are not those of {image}; expected {expected}"


def of_rows(paths: Iterable[str], images: Iterable[str]) -> Iterator[str]:
    """What to say about rows of tables that name images by other paths, such as absolute ones."""
    names = {path.rpartition("/")[2]: path for path in images}
    found = [path for path in paths if path.rpartition("/")[2] in names]
    if found:
        image = names[found[0].rpartition("/")[2]]
        yield (
            f"{len(found)} row(s) of tables name images such as {found[0]}, which does not exist; "
            f"expected the path below the table's folder, as of {image}"
        )


def of_encoded(paths: Iterable[str], images: Collection[str]) -> Iterator[str]:
    """What to say about rows of tables that name images as in addresses: ``a%20b.png``."""
    found = [path for path in paths if "%" in path and urllib.parse.unquote(path) in images]
    if found:
        yield (
            f"{len(found)} row(s) of tables name images percent-encoded, such as {found[0]}; "
            f"expected {urllib.parse.unquote(found[0])}"
        )


def of_columns(names: Iterable[str], where: str) -> Iterator[str]:
    """What to say about the columns of a table of which none is read as captions."""
    found = [name for name in names if _COLUMN.fullmatch(name)]
    if found:
        yield f"{where} has the column {found[0]}, which is not read; set {CAPTION_KEY} to it"


def of_other_extensions(paths: Iterable[str], stems: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What to say about rows of tables whose images have another extension.

    Args:
        paths: rows that name no image.
        stems: the paths of images by their own without extension.
    """
    found = [path for path in paths if os.path.splitext(path)[0] in stems]
    if found:
        image = stems[os.path.splitext(found[0])[0]][0]
        yield f"{len(found)} row(s) of tables name images such as {found[0]}; expected {image}"


def of_images(missing: Sequence[str], images: Sequence[str]) -> Iterator[str]:
    """What to say about the first captions ``missing`` an image, by the images without a caption.

    Both are paths without extensions.
    """
    candidates = images[:_MANY]
    for path in missing[:_SHOWN]:
        found = difflib.get_close_matches(path, candidates, 1, _CLOSE_NAME)
        if found:
            yield f"the caption of {path} has no image; the nearest image is {found[0]}"
