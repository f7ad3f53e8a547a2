"""Sources that read image files: a folder a class.

The first level under the root names the classes. Every file is an entry; what is no image, and what
lies in no class, says so. Folders, archives and addresses are alike here: see
:mod:`sid2core.data.storage.trees`.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sid2core import config
from sid2core.config.data import Labelled
from sid2core.data.decode import formats
from sid2core.data.decode.decoding import Decoded, Recipe
from sid2core.data.errors import DataError, Unusable
from sid2core.data.sources import classes, coco, fields, label_file, numbered, split_names
from sid2core.data.sources.captions.files import Described, FileCaptions, Found
from sid2core.data.sources.fields import Asked, Fields
from sid2core.data.sources.label_file import LabelFile
from sid2core.data.sources.numbered import Numbered
from sid2core.data.sources.protocol import CaptionFiles, Content, Entry, beside, is_text, key_of
from sid2core.data.storage import archives, paths
from sid2core.data.storage.archives import TarTree, ZipTree
from sid2core.data.storage.trees import ROOT, Item, LocalTree, RemoteTree, Tree, walk
from sid2core.errors import few, printable

SYNSET = r"n\d{8}"
"""What ImageNet's class folders are called."""

_log = logging.getLogger(__name__)
_PACKED = (".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".7z", ".rar")
_BARE = "it lies in no class folder"
_PROBED = 8
"""Class folders that are looked into."""


def planted(path: str, parameter: str, layout: str) -> Tree:
    """The tree at ``path``: a folder, a zip or a tar archive, here or behind an address.

    Raises:
        DataError: it is not there, or none of these.
    """
    path = paths.plain(path)
    expected = f"{path}/{layout}, or a .zip or .tar of such"
    if not paths.exists(path):
        inner = archives.inner(path)
        if inner is None or not paths.exists(inner[0]):
            raise paths.missing(path, parameter, expected)
        archive, below = inner
        kind = ZipTree if archive.lower().endswith(".zip") else TarTree
        return kind(f"{archive}/{below}", below)
    extension = os.path.splitext(path)[1].lower()
    if paths.is_address(path) or not os.path.isdir(path):
        if extension == ".zip":
            return ZipTree(path)
        if extension == ".tar":
            return TarTree(path)
        if extension in _PACKED:
            msg = f"{parameter} {path} is compressed as a whole, so its images cannot be read one "
            raise DataError(f"{msg}by one: unpack it into a folder or a plain .tar, and set that")
        if not paths.is_address(path):
            msg = f"{parameter} {path} is a file; expected {expected}: set {parameter} to such"
            raise DataError(msg)
        return RemoteTree(path)
    return LocalTree(path)


def imagenet(path: str, parameter: str) -> Tree:
    """The tree of ImageNet's images at ``path``: extracted, or the tar in that folder, or the tar.

    Raises:
        DataError: there is nothing of the kind.
    """
    tree = planted(path, parameter, "<synset>/<image>")
    if isinstance(tree, (ZipTree, TarTree)):
        return tree
    found = tree.scan(ROOT)
    if any(item.is_folder and re.fullmatch(SYNSET, item.name) for item in found):
        return tree
    part = "val" if parameter.endswith(".eval_path") else "train"
    name = f"ILSVRC2012_img_{part}.tar"
    packed = any(item.path == name for item in found)
    return TarTree(paths.join(tree.root, name)) if packed else tree


@dataclass(frozen=True)
class Folder(Decoded):
    """Images as ``<class>/**/<image>``; the key is the path below the root.

    A class is that of ``label_file``, for a file that is named there, else the folder's. Folders of
    whose files some are named there are no classes; neither are those that do not fit ``pattern``.
    Images all of which lie flat, and that no file labels, are one class; so are captioned ones,
    unless the parameters say that folders are classes (:mod:`.captions.files`).

    Folders that are named like splits, folders that only divide a numbered sequence, and a CSV file
    beside flat images that no parameter names, stop the stage. Labels in ``dataset.json`` are read
    if no parameter names others (:mod:`.numbered`).
    """

    tree: Tree
    recipe: Recipe
    parameter: str
    label_file: str | None = None
    class_file: str | None = None
    pattern: str = ".*"
    asked: Asked = Asked()
    captions: FileCaptions | None = None
    numbered: Numbered | None = None
    fixed: bool = False
    grouped: bool = False

    @classmethod
    def of(cls, settings: Labelled, *, data: config.Data, part: str) -> Folder:
        """The source ``folder``: the tree at the parameter ``part``."""
        tree = planted(getattr(settings, part), key_of(data.source.name, part), "<class>/<image>")
        source = cls._at(tree, settings, data, part, ".*")
        described = FileCaptions(tree, source.asked, source._where)
        numbers = None
        if settings.labels is None and not source.asked.folders:
            numbers = Numbered(tree, source._where, source._labels_key)
        return replace(source, captions=described, numbered=numbers)

    @classmethod
    def of_imagenet(cls, settings: Labelled, *, data: config.Data, part: str) -> Folder:
        """The source ``imagenet``: its tars or its extracted tree at the parameter ``part``."""
        tree = imagenet(getattr(settings, part), key_of(data.source.name, part))
        return cls._at(tree, settings, data, part, SYNSET)

    @classmethod
    def _at(
        cls, tree: Tree, settings: Labelled, data: config.Data, part: str, pattern: str
    ) -> Folder:
        key, asked = key_of(data.source.name, part), Asked.by(data)
        named = {fields.LABEL_KEY: asked.label, fields.IMAGE_KEY: asked.image and not asked.caption}
        if settings.labels is None and any(named.values()):
            name = next(key for key, column in named.items() if column)
            msg = (
                f"{name} names a column, but {beside(key, 'labels')} is null: set it to a CSV file"
            )
            raise DataError(f"{msg}, or {name} to null")
        recipe, names = Recipe.of(data), settings.class_names
        return cls(tree, recipe, key, settings.labels, names, pattern, asked)

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """Those of ``class_file``; else those of labels and folders, sorted."""
        if self.class_file is not None:
            return classes.read_names(self.class_file, beside(self.parameter, "class_names"))
        if self._labels_used:
            return classes.ordered(name for _, name in self._classed())
        names = self._folders() if self._by_folder else ()
        return classes.of_folders(names) or (classes.UNLABELLED,)

    @property
    def captioned(self) -> bool:
        """Whether any image has a caption, or some table has captions."""
        return self._found.captioned

    @property
    def caption_files(self) -> CaptionFiles:
        """What the names of all files say about captions."""
        return self._found.report

    @property
    def fields(self) -> Fields:
        """The columns of ``label_file``, else those of tables of captions."""
        if self._labels_used:
            return self._read_labels().fields
        return Fields(ignored=self._found.columns)

    def index(self) -> list[Entry]:
        """Every file, class by class, sorted by name at every level."""
        self._check_splits()
        alone = self._alone()
        listed = self._packed is not None and self.class_file is not None
        labels = classes.Labels(self.class_names, self.parameter, listed=listed, labelled=not alone)
        entries, found = [], self._found
        for item, name in self._classed():
            if item.path in found.used:
                continue
            label, problem = labels.of(name)
            if name is None and problem:
                problem = self._unlabelled()
            problem = item.problem or self._name_problem(item) or problem
            if not found.captioned:
                entries.append(Entry(item.path, label, item.place, problem=problem))
                continue
            place = found.place(item)
            described = bool(place.texts or place.files) or (
                False if formats.is_usual(item.name) else None
            )
            entries.append(Entry(item.path, label, place, problem=problem, captioned=described))
        coco.mention((entry.key for entry in entries), self._where)
        cure = self._cure
        if self._labels_used and {entry.problem for entry in entries} == {self._unlabelled()}:
            named = few(self._read_labels().labels, 1) or "nothing"
            here = few((entry.key for entry in entries), 1)
            cure = f"its labels name {named}, the files are {here}: name each below the path"
        elif alone and not (self.asked.unlabelled or found.captioned):
            split_names.mention_prefixes((entry.key for entry in entries), self._where)
        return classes.settled(entries, self.class_names, self._where, self._layout, cure)

    def stamp(self) -> str:
        """Of all names, sizes and times; of an archive, its own."""
        named = (self.label_file, self.class_file)
        return paths.digest([self.tree.stamp(), *(paths.mark(path) for path in named if path)])

    def read(self, entry: Entry) -> Content:
        """One image [h, w, c], decoded as :mod:`sid2core.data.decode.decoding` says."""
        place = entry.place
        captions: tuple[str, ...] = ()
        if isinstance(place, Described) and self.captions is not None:
            place, captions = place.image, self.captions.read(place)
        with self.tree.open(entry.key, place) as file:
            content = self.recipe.image(file)
        return replace(content, captions=captions) if captions else content

    @property
    def _layout(self) -> str:
        return "<class>/<image>"

    @property
    def _cure(self) -> str:
        return f"convert them to {formats.ACCEPTED}, or set {self.parameter} to where images are"

    def _name_problem(self, item: Item) -> str | None:
        """Why a file is no image, or None if its content has to decide."""
        return self._found.problem(item)

    @property
    def _found(self) -> Found:
        return Found() if self.captions is None else self.captions.found

    @property
    def _by_folder(self) -> bool:
        """Whether folders are classes."""
        if self.asked.unlabelled or self._packed is not None or self._undivided:
            return False
        return self.asked.folders or self.class_file is not None or not self.captioned

    @property
    def _packed(self) -> LabelFile | None:
        """The labels of ``dataset.json``, if there are any."""
        return None if self.numbered is None else self.numbered.labels

    @property
    def _undivided(self) -> bool:
        """Whether ``dataset.json`` says that there are no labels."""
        return self.numbered is not None and self.numbered.says_unlabelled

    @property
    def _where(self) -> str:
        return f"{self.parameter} {self.tree.root}"

    @functools.cached_property
    def _above(self) -> str:
        """The folder that classes lie in: the root, or the one folder that it holds.

        Such a folder counts where it holds nothing but folders, and more than one.
        """
        above, inside = ROOT, self.tree.scan(ROOT)
        while len(inside) == 1 and inside[0].is_folder:
            above, inside = inside[0], self.tree.scan(inside[0])
        folders_alone = len(inside) > 1 and all(item.is_folder for item in inside)
        if above is ROOT or not folders_alone:
            return ""
        _log.info("%s: its classes are the folders in %s", self._where, above.path)
        return above.path

    def _tops(self) -> list[Item]:
        """The class folders, and what lies beside them."""
        found = self.tree.scan(ROOT)
        for _ in filter(None, self._above.split("/")):
            found = self.tree.scan(found[0])
        return [item for item in found if not self._is_named(item)]

    def _is_named(self, item: Item) -> bool:
        """Whether it is the file of labels or of class names."""
        if self.numbered is not None and self.numbered.is_file(item):
            return True
        path = paths.join(self.tree.root, item.path)
        return any(file and paths.same(file, path) for file in (self.label_file, self.class_file))

    def _check_splits(self) -> None:
        """Refuse folders of splits, unless files say what the classes are.

        Raises:
            DataError: the class folders, or those in the only one, are named like splits.
        """
        if self._labels_used or self.class_file is not None:
            return
        if self._by_folder and not self.asked.folders:
            tops = [item for item in self._tops() if item.is_folder]
            if numbered.may_divide(item.name for item in tops):
                below = {top.name: images_among(list(walk(self.tree, top))) for top in tops}
                numbered.check_folders(below, self._where, self._labels_key)
        above, inside = self._above, self._tops()
        escape = f", or list the classes in {beside(self.parameter, 'class_names')}"
        while folders := [item for item in inside if item.is_folder]:
            names = [item.name for item in folders]
            if any(split_names.among([name]) for name in names):  # annotations/ is no class
                full = [item.name for item in folders if self._holds_images(item)]
                names = full or names

            def join(name: str, above: str = above) -> str:
                return paths.join(self.tree.root, paths.join(above, name))

            split_names.check_folders(names, join, self._where, self.parameter, escape=escape)
            if len(folders) > 1:
                split_names.check_masks(names, join, self._where, self.parameter, escape=escape)
                nested = {
                    join(top.name): [one.name for one in self.tree.scan(top) if one.is_folder]
                    for top in folders[:_PROBED]
                }
                split_names.check_inside(nested, self._where, self.parameter, escape=escape)
                return
            above, inside = folders[0].path, self.tree.scan(folders[0])

    def _folders(self) -> list[str]:
        """The names of the class folders: those that hold an image, by its name."""
        found = [item for item in self._tops() if self._is_class(item)]
        full = [item for item in found if self._holds_images(item)]
        empty = [item.name for item in found if item not in full]
        if full and empty:
            _log.warning(
                "%s: %d folder(s) without an image are no classes: %s",
                self._where,
                len(empty),
                few(empty),
            )
        return [item.name for item in full or found]

    def _holds_images(self, top: Item) -> bool:
        files = [item for item in walk(self.tree, top) if not item.is_folder and not item.problem]
        likely = images_among(files)
        return any(formats.is_usual(item.name) or self._begins_as_image(item) for item in likely)

    def _begins_as_image(self, item: Item) -> bool:
        try:
            with self.tree.open(item.path, item.place) as file:
                return formats.is_known(file)
        except Unusable:
            return False

    def _is_class(self, item: Item) -> bool:
        fits = item.is_folder and is_text(item.name)
        return fits and re.fullmatch(self.pattern, item.name, re.DOTALL) is not None

    def _alone(self) -> bool:
        """Whether images have no labels: the parameters say so, or they lie flat or have captions.

        Raises:
            DataError: there are labels in a file that no parameter names, or no folder fits.
        """
        if self.asked.unlabelled:
            return True
        tops = self._tops()
        nested = self._by_folder and any(item.is_folder for item in tops)
        if self._labels_used or nested:
            return False
        self._check_unused(tops)
        if self.pattern != ".*":
            msg = (
                f"{self._where} holds no folder such as n01440764, and {self._labels_key} is "
                "null: set it to LOC_val_solution.csv (lines of name,synset) for validation images "
                "that lie flat"
            )
            raise DataError(msg)
        return True

    def _check_unused(self, tops: Sequence[Item]) -> None:
        """Refuse labels beside images without any.

        Raises:
            DataError: there is a table that is not read, or a column of labels in one that is.
        """
        captioned = self._found.captioned
        what = "images have captions" if captioned else "images lie flat"
        names = [item.name for item in tops if item.name.lower().endswith((".csv", ".tsv"))]
        if captioned:  # a table beside them may hold anything
            names = [name for name in names if fields.is_label_like(name)]
        if names and not self.class_file:
            found = f"{what}, and the table beside them ({few(names)}) is not used"
            table = printable(paths.join(self.tree.root, names[0]))
            cure = f"set {self._labels_key} to {table}, or name a table of captions metadata.csv"
            raise fields.unused(found, self._where, cure)
        columns = [name for name in self._found.columns if fields.is_label_like(name)]
        if columns:
            found = f"{what}, and the labels in a metadata file ({few(columns)}) are not used"
            cure = f"set {self._labels_key} to a CSV file of file_name,label"
            raise fields.unused(found, self._where, cure)

    def _classed(self) -> Iterator[tuple[Item, classes.Raw]]:
        """Every file with its class as labels or folders have it."""
        labels = self._read_labels().labels if self._labels_used else {}
        for top in self._tops():
            below = walk(self.tree, top) if top.is_folder else [top]
            files = [item for item in below if not item.is_folder]
            given = [label_file.looked_up(labels, item.path) for item in files]
            inherited = self._is_class(top) and not any(given) and self._by_folder
            for item, name in zip(files, given, strict=True):
                raw = classes.parsed(name or "")
                if isinstance(raw, int) and raw < 0:  # -1 and 1 are the classes of CelebA
                    raw = name
                yield item, top.name if inherited else raw

    @property
    def _labels_used(self) -> bool:
        named = self.label_file is not None or self._packed is not None
        return named and not self.asked.unlabelled

    def _read_labels(self) -> LabelFile:
        if self._packed is not None:
            return self._packed
        assert self.label_file is not None
        return label_file.read(self.label_file, self._labels_key, self.asked)

    @property
    def _labels_key(self) -> str:
        return beside(self.parameter, "labels")

    def _unlabelled(self) -> str:
        """Why a file has no class."""
        if self._packed is not None:
            return f"{numbered.FILE} does not name it"
        if self.label_file is None:
            return _BARE
        return f"{self._labels_key} does not name it, and {_BARE}"


def images_among(items: Sequence[Item]) -> list[Item]:
    """The files that have usual names of images; where there are none, those that may be some."""
    files = [item for item in items if not item.is_folder]
    usual = [item for item in files if formats.is_usual(item.name)]
    return usual or [item for item in files if formats.name_problem(item.name) is None]


def natural(name: str) -> tuple[list[str | int], str]:
    """A key by which numbers in names sort as numbers; equal ones (1, 01) by the name itself."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name
