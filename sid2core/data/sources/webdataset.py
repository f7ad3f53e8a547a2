"""WebDataset: tar shards in which the files of one sample share a name."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, ClassVar, NamedTuple

from sid2core.data.decode import formats
from sid2core.data.errors import Unusable
from sid2core.data.sources import classes, fields, split_names
from sid2core.data.sources.captions import texts
from sid2core.data.sources.fields import Asked, Fields
from sid2core.data.sources.many_files import ManyFiles
from sid2core.data.sources.protocol import CaptionFiles, Content, Entry
from sid2core.data.storage import archives, paths, tars
from sid2core.data.storage.globbing import File
from sid2core.data.storage.tars import Member
from sid2core.errors import few

_SHOWN = 5
_SIDE = 2**20
"""Bytes of a label or of the JSON at most."""
_USUAL = ("cls", "cls.txt", "label")
"""Fields of labels in order of preference: extensions, then a key of the JSON."""
_LABEL_FILES = frozenset(
    f"{name}{text}" for name in ("cls", "label", "class") for text in ("", ".txt")
)
"""Extensions of files that hold a label."""
_TEXTS = ("txt", "caption")
"""Extensions of captions, in order of preference."""

Span = tuple[int, int]
"""Offset and size within a shard."""


class Place(NamedTuple):
    """Where a sample's files are."""

    shard: str
    image: Span
    captions: tuple[Span | str, ...] = ()
    """Text files, and keys of the JSON."""
    json: Span | None = None


class Sample(NamedTuple):
    """One sample as listed."""

    key: str
    place: Place | None = None
    labels: Mapping[str, Any] = {}
    """What its label-like fields hold, by field; an ``Unusable`` if that cannot be read."""
    names: frozenset[str] = frozenset()
    """Its fields: extensions and keys of the JSON."""
    folder: str = ""
    """The first folder that it lies in, within the shard."""
    captions: frozenset[str] = frozenset()
    """Those of its fields that its captions are in."""
    problem: str | None = None
    lost: bool = False
    """Whether it is a caption without an image."""


@dataclass(frozen=True)
class WebDataset(ManyFiles):
    """Samples of ``key.jpg`` (or another image), ``key.cls``, ``key.txt`` and ``key.json``.

    The label is that of ``cls`` or ``cls.txt``, else ``label`` of the JSON, else the only field
    that looks like one. The caption is ``txt``, else ``caption``, else a usual key of the JSON, or
    all fields that the parameters name. Keys begin with the shard's name, because shards may count
    alike.
    """

    extension: ClassVar[str] = ".tar"

    fixed: bool = False
    grouped: bool = False

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """Those of ``class_file``; else the labels found, sorted."""
        listed = self._listed_names()
        if listed is not None:
            return listed
        return classes.ordered(raw for raw, problem in map(self._raw, self._samples()))

    @functools.cached_property
    def captioned(self) -> bool:
        """Whether any sample has a caption."""
        return any(sample.captions for sample in self._samples())

    @functools.cached_property
    def fields(self) -> Fields:
        """The extensions and the keys of the JSON; what is read of no sample is ignored."""
        names, samples = self._present(), self._samples()
        labels = {self._label_field(sample) for sample in samples}
        captions = {name for sample in samples for name in sample.captions}
        images = {name for name in names if f".{name}" in formats.EXTENSIONS}
        if self.asked.image is not None:
            images = {self.asked.image.lower()}
        used = {*labels, *captions, *images, "json"}
        label = " or ".join(name for name in self._label_fields if name in labels) or None
        return Fields(label, tuple(name for name in names if name not in used))

    @property
    def caption_files(self) -> CaptionFiles:
        """The captions of samples without an image."""
        lost = [sample.key for sample in self._samples() if sample.lost]
        return CaptionFiles(len(lost), tuple(lost[:_SHOWN]))

    def index(self) -> list[Entry]:
        """Every sample, shard by shard."""
        samples, names = self._samples(), self.class_names
        labelled = bool(self._label_fields)
        for name in self.asked.caption:
            fields.require(name, self._present(), self._where, fields.CAPTION_KEY)
        if not labelled and not self.asked.unlabelled and not self.captioned:
            self._check_folders(samples)
        listed = self.class_file is not None
        labels = classes.Labels(names, self.parameter, listed=listed, labelled=labelled)
        entries = []
        for sample in samples:
            raw, unreadable = self._raw(sample)
            label, problem = labels.of(raw)
            problem = sample.problem or unreadable or problem
            captioned = bool(sample.captions) if self.captioned else None
            entries.append(
                Entry(sample.key, label, sample.place, problem=problem, captioned=captioned)
            )
        cure = f"set {self.parameter} to shards of key.jpg and key.cls"
        return classes.settled(entries, names, self._where, "sample with an image", cure)

    def read(self, entry: Entry) -> Content:
        """One sample's picture, and its captions."""
        place: Place = entry.place
        content = self.recipe.image(io.BytesIO(archives.stored(place.shard, *place.image)))
        metadata = _json(archives.stored(place.shard, *place.json)) if place.json else {}
        captions: list[str] = []
        for field in place.captions:
            if isinstance(field, str):
                captions += texts.of_value(metadata.get(field)) or ()
                continue
            try:
                stored = archives.stored(place.shard, *field)
                captions += texts.of_file(stored, lines=self.asked.lines)
            except Unusable as error:
                msg = f"its caption is {error}"
                raise Unusable(msg) from None
        return replace(content, captions=tuple(captions)) if captions else content

    def _present(self) -> list[str]:
        """The fields of all samples."""
        return sorted({name for sample in self._samples() for name in sample.names})

    @functools.cached_property
    def _label_fields(self) -> tuple[str, ...]:
        """The fields of the labels: of each sample the first that it has counts.

        Raises:
            DataError: it is not clear which.
        """
        candidates = sorted({name for sample in self._samples() for name in sample.labels})
        usual = tuple(name for name in _USUAL if name in candidates)
        first = usual[0] if usual else ""
        label = fields.label(self.asked, candidates, self._present(), self._where, first)
        if label is None or self.asked.label is not None or not usual:
            return () if label is None else (label,)
        return usual

    def _label_field(self, sample: Sample) -> str | None:
        """The field of a sample's label, if it has one."""
        return next((name for name in self._label_fields if name in sample.labels), None)

    def _raw(self, sample: Sample) -> tuple[classes.Raw, str | None]:
        """The label of a sample as it is, and why it cannot be used."""
        field = self._label_field(sample)
        value = sample.labels[field] if field else None
        if isinstance(value, Unusable):
            return None, str(value)
        if isinstance(value, bool) or not isinstance(value, (int, str, type(None))):
            found = type(value).__name__
            return None, f"its label is {found}; expected an integer or a name"
        return classes.parsed(value) if isinstance(value, str) else value, None

    def _check_folders(self, samples: Iterable[Sample]) -> None:
        """Refuse samples without labels in several folders.

        Raises:
            DataError: the folders are probably classes.
        """
        found = sorted({sample.folder for sample in samples if sample.folder})
        if len(found) > 1:
            what = f"samples have no labels, but lie in {len(found)} folders ({few(found)})"
            cure = "set data.source.name to folder and its path to the archive"
            raise fields.unused(what, self._where, cure)

    def _samples(self) -> tuple[Sample, ...]:
        files = self._files()
        marks = [paths.mark(file.path) if file.problem is None else "" for file in files]
        samples = _listed(tuple(files), tuple(marks), self.asked)
        split_names.check_folders(
            {sample.folder: None for sample in samples if sample.folder},
            lambda name: f"shards of the samples in {name}",
            self._where,
            self.parameter,
            alone=False,
        )
        return samples


@functools.lru_cache(maxsize=2)
def _listed(files: tuple[File, ...], marks: tuple[str, ...], asked: Asked) -> tuple[Sample, ...]:
    """The samples of all shards, and the files that are not shards."""
    samples = list[Sample]()
    for shard in files:
        if shard.problem is not None:
            if tars.is_compressed(shard.path):
                raise tars.refused(shard.path, paths.part(shard.path, 0, 6))
            samples.append(Sample(shard.name, problem=shard.problem))
            continue
        with paths.opened(shard.path) as file:
            samples += _Shard(shard, file, asked).samples()
    return tuple(samples)


class _File(NamedTuple):
    """A member of a sample: the folders it lies in, its name, and where it is."""

    above: tuple[str, ...]
    name: str
    member: Member


@dataclass
class _Shard:
    """The samples of one shard; files of one sample need not be adjacent."""

    shard: File
    file: BinaryIO
    asked: Asked

    def samples(self) -> Iterator[Sample]:
        found = list[_File]()
        for member in tars.members(self.file, self.shard.path):
            if member.is_folder:
                continue
            path, wrong = archives.split(member.name)
            if path and "." not in path[-1]:
                wrong = member.problem or "its name has no extension"
            if wrong is not None:
                yield Sample(f"{self._above}/{member.name[: archives.LONG]}", problem=wrong)
            elif path:
                found.append(_File(tuple(path[:-1]), path[-1], member))
        for key, parts in _grouped(found):
            above, name = key
            folder = above[0] if above else ""
            yield self._made("/".join([self._above, *above, name]), parts)._replace(folder=folder)

    @property
    def _above(self) -> str:
        return self.shard.name.removesuffix(WebDataset.extension)

    def _made(self, key: str, parts: dict[str, Member]) -> Sample:
        images = [name for name in parts if f".{name}" in formats.EXTENSIONS]
        if self.asked.image is not None:
            images = [name for name in images if name == self.asked.image.lower()]
        if len(images) != 1:
            found = f"{len(images)} images" if images else "no image"
            lost = not images and self.asked.captions and any(name in parts for name in _TEXTS)
            return Sample(key, problem=f"{found} in the sample: {few(parts)}", lost=lost)
        try:
            for name, member in parts.items():
                if member.problem or member.link is not None:
                    msg = f"its {name} is {member.problem or 'a link'}"
                    raise Unusable(msg)
            return self._sample(key, parts, images[0])
        except Unusable as error:
            return Sample(key, problem=str(error))

    def _sample(self, key: str, parts: dict[str, Member], image: str) -> Sample:
        metadata = _json(self._read(parts["json"])) if "json" in parts else {}
        labels: dict[str, Any] = {
            name: value
            for name, value in metadata.items()
            if name == self.asked.label or fields.is_label_like(name)
        }
        for name in parts:
            if name in _LABEL_FILES or name == self.asked.label:
                try:
                    labels[name] = _text(self._read(parts[name]))
                except Unusable as error:
                    labels[name] = error
        captions, caption_fields = self._captions(parts, metadata)
        json_span = _span(parts["json"]) if any(isinstance(one, str) for one in captions) else None
        place = Place(self.shard.path, _span(parts[image]), captions, json_span)
        names = _shared(frozenset({*parts, *metadata}))
        return Sample(key, place, labels, names, captions=_shared(caption_fields))

    def _captions(
        self, parts: Mapping[str, Member], metadata: Mapping[str, Any]
    ) -> tuple[tuple[Span | str, ...], frozenset[str]]:
        """Where a sample's captions are, and in which of its fields."""
        asked = self.asked
        if not asked.captions:
            return (), frozenset()
        names = [name for name in asked.caption or _TEXTS if name in parts and name != asked.label]
        keys = [name for name in asked.caption or fields.CAPTIONS if name != asked.label]
        found = [name for name in keys if name not in parts and texts.of_value(metadata.get(name))]
        if not asked.caption:
            names, found = names[:1], [] if names else found[:1]
        captions: list[Span | str] = [_span(parts[name]) for name in names]
        captions += found
        return tuple(captions), frozenset((*names, *found))

    def _read(self, member: Member) -> bytes:
        if member.size > _SIDE:
            msg = f"{member.size} bytes of label or JSON; expected at most {_SIDE}"
            raise Unusable(msg)
        self.file.seek(member.offset)
        return self.file.read(member.size)


Key = tuple[tuple[str, ...], str]


def _grouped(found: Iterable[_File]) -> Iterator[tuple[Key, dict[str, Member]]]:
    """Samples in the order of their first files: the key, and the members by extension.

    The extension is what follows the first dot. Where no file of a sample is an image by that,
    names have dots themselves, and the extension is the last part of them.
    """
    for key, files in _joined(found, _first_dot):
        parts = {_first_dot(file.name)[1]: file.member for file in files}
        images = any(f".{name}" in formats.EXTENSIONS for name in parts)
        dotted = any(f".{name.rpartition('.')[2]}" in formats.EXTENSIONS for name in parts)
        if images or not dotted:
            yield key, parts
            continue
        for inner, some in _joined(files, _last_dot):
            yield inner, {_last_dot(file.name)[1]: file.member for file in some}


def _joined(
    found: Iterable[_File], split: Callable[[str], tuple[str, str]]
) -> list[tuple[Key, list[_File]]]:
    """Files by their keys; one more file of the same extension begins another sample."""
    groups, current = list[tuple[Key, list[_File]]](), dict[Key, tuple[set[str], list[_File]]]()
    for file in found:
        name, extension = split(file.name)
        key = (file.above, name)
        if key not in current or extension in current[key][0]:
            current[key] = (set(), [])
            groups.append((key, current[key][1]))
        current[key][0].add(extension)
        current[key][1].append(file)
    return groups


def _first_dot(name: str) -> tuple[str, str]:
    base, _, extension = name.partition(".")
    return base, extension.lower()


def _last_dot(name: str) -> tuple[str, str]:
    parts = name.split(".")
    long = ".".join(parts[-2:]).lower()
    if len(parts) > 2 and long in _LABEL_FILES:
        return ".".join(parts[:-2]), long
    return ".".join(parts[:-1]), parts[-1].lower()


@functools.lru_cache(maxsize=1024)
def _shared(names: frozenset[str]) -> frozenset[str]:
    """One object for equal sets: a million samples mostly have the same fields."""
    return names


def _span(member: Member) -> Span:
    return member.offset, member.size


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        msg = f"its text is not UTF-8: {error.reason}"
        raise Unusable(msg) from None


def _json(content: bytes) -> dict[str, Any]:
    try:
        metadata = json.loads(content)
    except (ValueError, RecursionError) as error:
        msg = f"its JSON cannot be read: {error}"
        raise Unusable(msg) from None
    return metadata if isinstance(metadata, dict) else {}
