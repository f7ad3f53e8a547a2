"""WebDataset: tar shards in which the files of one sample share a name and follow each other."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, NamedTuple

from sid2core import config
from sid2core.config.data import Named
from sid2core.data.decode import decoding
from sid2core.data.decode.decoding import Decoded, Recipe
from sid2core.data.errors import Unusable
from sid2core.data.sources import classes
from sid2core.data.sources.protocol import Content, Entry, beside, is_text, key_of
from sid2core.data.storage import archives, globbing, paths, tars
from sid2core.data.storage.globbing import File
from sid2core.data.storage.tars import Member

_EXTENSION = ".tar"
_SIDE = 2**20
"""Bytes of a label or a caption at most."""

Span = tuple[int, int]
"""Offset and size within a shard."""


class Place(NamedTuple):
    """Where a sample's files are."""

    shard: str
    image: Span
    text: Span | None
    told: Span | None
    """Of its JSON."""


class Sample(NamedTuple):
    """One sample as listed; ``raw`` is what is told of its class."""

    key: str
    place: Place | None = None
    raw: classes.Raw = None
    captioned: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class WebDataset(Decoded):
    """Samples of ``key.jpg`` (or another image), ``key.cls``, ``key.txt`` and ``key.json``.

    The label is that of ``cls``, else ``label`` of the JSON; the caption is ``txt``, else
    ``caption`` of the JSON. Keys begin with the shard's name, since shards may count alike.
    """

    path: str
    recipe: Recipe
    parameter: str
    class_file: str | None = None
    fixed: bool = False
    grouped: bool = False

    @classmethod
    def of(cls, settings: Named, *, data: config.Data, part: str) -> WebDataset:
        """The source ``webdataset``: the shards at the parameter ``part``."""
        key, path = key_of(data.source.name, part), paths.plain(getattr(settings, part))
        return cls(path, Recipe.of(data), key, settings.class_names)

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """Those of ``class_file``; else the labels found, sorted."""
        if self.class_file is not None:
            return classes.read_names(self.class_file, beside(self.parameter, "class_names"))
        return classes.ordered(sample.raw for sample in self._samples() if sample.raw is not None)

    @functools.cached_property
    def captioned(self) -> bool:
        """Whether any sample has a caption."""
        return any(sample.captioned for sample in self._samples())

    def index(self) -> list[Entry]:
        """Every sample, shard by shard, in the shard's order."""
        samples, names = self._samples(), self.class_names
        labelled = any(sample.raw is not None for sample in samples)
        listed = self.class_file is not None
        labels = classes.Labels(names, self.parameter, listed=listed, labelled=labelled)
        entries = []
        for sample in samples:
            label, problem = labels.of(sample.raw)
            problem = sample.problem or problem
            entries.append(Entry(sample.key, label, sample.place, problem=problem))
        cure = f"set {self.parameter} to shards of key.jpg and key.cls"
        return classes.settled(entries, names, self._where, "sample with an image", cure)

    def stamp(self) -> str:
        """Of the shards' names, sizes and times."""
        marks = [f"{file.name}\0{paths.mark(file.path)}" for file in self._files()]
        return paths.digest([*marks, paths.mark(self.class_file) if self.class_file else ""])

    def read(self, entry: Entry) -> Content:
        """One sample's picture, and its caption."""
        place: Place = entry.place
        content = self.recipe.image(io.BytesIO(archives.stored(place.shard, *place.image)))
        if place.text is not None:
            return replace(content, caption=_text(archives.stored(place.shard, *place.text)))
        if place.told is not None:
            told = _json(archives.stored(place.shard, *place.told))
            return replace(content, caption=_caption(told))
        return content

    @property
    def _where(self) -> str:
        return f"{self.parameter} {self.path}"

    def _files(self) -> list[File]:
        return globbing.gathered(self.path, self.parameter, _EXTENSION)

    def _samples(self) -> tuple[Sample, ...]:
        files = self._files()
        marks = [paths.mark(file.path) if file.problem is None else "" for file in files]
        return _listed(tuple(files), tuple(marks))


@functools.lru_cache(maxsize=2)
def _listed(files: tuple[File, ...], marks: tuple[str, ...]) -> tuple[Sample, ...]:
    """The samples of all shards, and the files that are no shards."""
    samples = list[Sample]()
    for shard in files:
        if shard.problem is not None:
            if tars.is_compressed(shard.path):
                raise tars.refused(shard.path, paths.part(shard.path, 0, 6))
            samples.append(Sample(shard.name, problem=shard.problem))
            continue
        with paths.opened(shard.path) as file:
            samples += _Shard(shard, file).samples()
    return tuple(samples)


@dataclass
class _Shard:
    """Groups members that follow each other with equal names up to the first dot."""

    shard: File
    file: BinaryIO
    key: str = ""
    parts: dict[str, Member] = field(default_factory=dict)

    def samples(self) -> Iterator[Sample]:
        for member in tars.members(self.file, self.shard.path):
            if member.is_folder:
                continue
            path, wrong = archives.split(member.name)
            if path and "." not in path[-1]:
                wrong = member.problem or "its name has no extension"
            if wrong is not None:
                yield from self._done()
                yield Sample(f"{self._above}/{member.name[: archives.LONG]}", problem=wrong)
            elif path:
                name, _, extension = path[-1].partition(".")
                key = "/".join([self._above, *path[:-1], name])
                if key != self.key or extension.lower() in self.parts:
                    yield from self._done()
                self.key = key
                self.parts[extension.lower()] = member
        yield from self._done()

    @property
    def _above(self) -> str:
        return self.shard.name.removesuffix(_EXTENSION)

    def _done(self) -> Iterator[Sample]:
        """The sample whose files are all there, if any."""
        parts, self.parts = self.parts, {}
        if not parts:
            return
        images = [name for name in parts if f".{name}" in decoding.EXTENSIONS]
        if len(images) != 1:
            found = f"{len(images)} images" if images else "no image"
            yield Sample(self.key, problem=f"{found} in the sample: {' '.join(parts)}")
            return
        try:
            for name, member in parts.items():
                if member.problem or member.link is not None:
                    msg = f"its {name} is {member.problem or 'a link'}"
                    raise Unusable(msg)
            yield self._sample(parts, images[0])
        except Unusable as error:
            yield Sample(self.key, problem=str(error))

    def _sample(self, parts: dict[str, Member], image: str) -> Sample:
        told = self._read(parts["json"]) if "json" in parts else None
        given = _json(told) if told is not None else {}
        raw = given.get("label")
        if "cls" in parts:
            raw = _text(self._read(parts["cls"]))
        if isinstance(raw, bool) or not isinstance(raw, (int, str, type(None))):
            msg = f"its label is {type(raw).__name__}; expected an integer or a name"
            raise Unusable(msg)
        raw = classes.parsed(raw) if isinstance(raw, str) else raw
        text = _span(parts.get("txt"))
        captioned = text is not None or _caption(given) is not None
        place = Place(
            self.shard.path, _span(parts[image]) or (0, 0), text, _span(parts.get("json"))
        )
        return Sample(self.key, place, raw, captioned)

    def _read(self, member: Member) -> bytes:
        if member.size > _SIDE:
            msg = f"{member.size} bytes of label or caption; expected at most {_SIDE}"
            raise Unusable(msg)
        self.file.seek(member.offset)
        return self.file.read(member.size)


def _span(member: Member | None) -> Span | None:
    return None if member is None else (member.offset, member.size)


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        msg = f"its text is not UTF-8: {error.reason}"
        raise Unusable(msg) from None


def _json(content: bytes) -> dict[str, Any]:
    try:
        told = json.loads(content)
    except (ValueError, RecursionError) as error:
        msg = f"its JSON cannot be read: {error}"
        raise Unusable(msg) from None
    return told if isinstance(told, dict) else {}


def _caption(told: dict[str, Any]) -> str | None:
    caption = told.get("caption")
    if not isinstance(caption, str):
        return None
    if not is_text(caption):
        msg = "its caption is no text: it has half a surrogate pair"
        raise Unusable(msg)
    return caption
