"""What a source is: entries that are cheap to list, and an image for each that is made on demand.

Whatever the source, only entries are ever held all at once, about 300 bytes each. Splits and
orders are made of them alone, and images pass by one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Protocol, runtime_checkable

from sid2core.config import SOURCES
from sid2core.data.errors import DataError, Unusable
from sid2core.data.sources.fields import Fields

GROUPS_AT_HAND = 4
"""So many groups' entries are mixed with one another, and their reader keeps as many at hand."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One image by name, without its pixels."""

    key: str
    """Unique within the source and stable over time: split and order depend on it."""
    label: int
    """Index into the source's ``class_names``; -1 where ``problem`` says why there is none."""
    place: Any = None
    """Where the source finds it again: small, picklable, of no meaning to anybody else."""
    group: int = 0
    """Entries of one group are read together at the price of one; see :attr:`Source.grouped`."""
    problem: str | None = None
    """Why it cannot be used, where that is known without reading it: the reason of its reject."""
    captioned: bool | None = None
    """Whether it has a caption, where that is known without reading it."""
    split: str | None = None
    """The split that it belongs to, whatever ``data.train_fraction`` is; None leaves it open."""
    video: str | None = None
    """The key of the video that it is a clip of; all clips of a video are in one split."""


@dataclass(frozen=True, eq=False)
class Content:
    """What a source has under an entry's name."""

    image: NDArray[np.uint8]
    """Raw values [h, w, c] or [f, h, w, c], of the source's ``shape``."""
    size: tuple[int, int]
    """Width and height of the picture that it was made from."""
    captions: tuple[str, ...] = ()
    """Any number of texts that describe it."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """The value of each attribute that the source has; see :func:`attributes_of`."""


@dataclass(frozen=True, eq=False)
class Record:
    """One labelled image."""

    key: str
    image: NDArray[np.uint8]
    """Raw values [h, w, c] or [f, h, w, c]."""
    label: int
    size: tuple[int, int]
    """Width and height of the picture that it was made from."""
    captions: tuple[str, ...] = ()
    """Any number of texts that describe it."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """The value of each attribute that the source has; see :func:`attributes_of`."""


class CaptionFiles(NamedTuple):
    """What the names of all files say about captions."""

    without_image: int = 0
    """Captions that belong to no image."""
    examples: tuple[str, ...] = ()
    """Some of these."""
    suggestions: tuple[str, ...] = ()
    """Sentences about files that are nearly captions."""


def key_of(name: str, part: str) -> str:
    """The parameter ``part`` of the source ``name``, such as ``data.source.folder.path``."""
    return f"{SOURCES.key}.{name}.{part}"


def beside(parameter: str, part: str) -> str:
    """The parameter ``part`` in the same section as ``parameter``."""
    return f"{parameter.rpartition('.')[0]}.{part}"


@runtime_checkable
class Source(Protocol):
    """A set of labelled images in a fixed order; pickled and sent to the processes that read it."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label, in label order."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of every image, channels last."""
        ...

    @property
    def captioned(self) -> bool:
        """Whether contents carry captions."""
        ...

    @property
    def fixed(self) -> bool:
        """Whether nothing can be added to it, so that classes may be split by exact counts."""
        ...

    @property
    def grouped(self) -> bool:
        """Whether reading entries of one group one after another is much cheaper than mixed."""
        ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """How images come from files, for the manifest; empty where there are no files."""
        ...

    def index(self) -> Sequence[Entry]:
        """All entries, decoding nothing; each call gives the same ones in the same order.

        Every file that is found is an entry: what cannot be used says so in ``problem``.
        """
        ...

    def stamp(self) -> str:
        """What changes when the source does, as far as names, sizes and times tell."""
        ...

    def read(self, entry: Entry) -> Content:
        """The content of one entry, a new array at each call.

        Raises:
            Unusable: there is no image of that shape to be had; the reason goes into the rejects.
        """
        ...


def fields_of(source: Source) -> Fields:
    """What ``source`` reads its labels from: its property ``fields``, which is optional."""
    found = getattr(source, "fields", Fields())
    return found if isinstance(found, Fields) else Fields()


def caption_files_of(source: Source) -> CaptionFiles:
    """What ``source`` knows about files of captions: its optional property ``caption_files``."""
    found = getattr(source, "caption_files", CaptionFiles())
    return found if isinstance(found, CaptionFiles) else CaptionFiles()


def attributes_of(source: Source) -> Mapping[str, Sequence[str]]:
    """The possible values of each attribute: ``source``'s property ``attributes``, if it has one.

    Names are sorted, so that their order in shards and in JSON is the same.
    """
    found: Mapping[str, Sequence[str]] = getattr(source, "attributes", {})
    return {name: tuple(found[name]) for name in sorted(found)}


def attribution_of(source: Source) -> str:
    """The makers and the licence of the images: ``source``'s optional property ``attribution``."""
    return str(getattr(source, "attribution", ""))


def counts_of(source: Source) -> Mapping[str, int]:
    """Further counts for the manifest: ``source``'s property ``counts``, if it has one."""
    found: Mapping[str, int] = getattr(source, "counts", {})
    return dict(found)


def listed(source: Source) -> list[Entry]:
    """All entries of ``source``, checked; of equal keys the first counts.

    Raises:
        DataError: there are none.
    """
    entries = list(source.index())
    if not entries:
        msg = f"{source!r} lists no image; choose another data.source.name"
        raise DataError(msg)
    classes, seen = len(source.class_names), set[str]()
    for row, entry in enumerate(entries):
        problem = entry.problem
        if not is_text(entry.key):
            problem = "its name is not UTF-8: rename it"
        elif entry.key in seen:
            problem = "another of this key came before it"
        elif problem is None and not 0 <= entry.label < classes:
            problem = f"label {entry.label}; there are classes 0 to {classes - 1}"
        seen.add(entry.key)
        if problem is not None:
            entries[row] = replace(entry, problem=problem)
    return entries


def loaded(source: Source, entry: Entry) -> Record:
    """One entry of ``source`` with its image, checked.

    Raises:
        DataError: the image is not uint8 of the shape that the source promised.
        Unusable: as :meth:`Source.read`, or the entry has a problem.
    """
    if entry.problem is not None:
        raise Unusable(entry.problem)
    content = source.read(entry)
    image = content.image
    if image.dtype != np.uint8 or image.shape != source.shape:
        msg = (
            f"{entry.key} is {image.dtype} of shape {image.shape}; expected uint8 of shape "
            f"{source.shape}, channels last: convert or resize it in the source"
        )
        raise DataError(msg)
    _check_attributes(content, entry.key, source)
    return Record(entry.key, image, entry.label, content.size, content.captions, content.attributes)


def _check_attributes(content: Content, key: str, source: Source) -> None:
    """Raises where an attribute is not one that the source promised."""
    possible = attributes_of(source)
    values = content.attributes
    if values.keys() != possible.keys() or any(
        value not in possible[name] for name, value in values.items()
    ):
        msg = f"{key} has attributes {dict(values)}; expected a value of each of {dict(possible)}"
        raise DataError(f"{msg}: correct `attributes` of the source")


def is_text(name: str) -> bool:
    """Whether a file's name is UTF-8; Python lets others through with stray surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
