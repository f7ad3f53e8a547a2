"""NumPy arrays as a source, mapped into memory: a row is read when its turn comes."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

import numpy as np

from sid2core import config
from sid2core.config.data import Labelled
from sid2core.data.decode.decoding import Decoded, Recipe
from sid2core.data.errors import DataError
from sid2core.data.sources import classes, fields
from sid2core.data.sources.fields import Asked, Fields
from sid2core.data.sources.protocol import Content, Entry, beside, key_of
from sid2core.data.storage import npy, paths
from sid2core.errors import few

_IMAGES = ("images", "arr_0")
_LABELS = ("labels", "arr_1")
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Arrays(Decoded):
    """Images [n, h, w] or [n, h, w, c] of bytes; the key is the row's number.

    ``path`` is an ``.npz`` with ``images`` and ``labels`` (or ADM's ``arr_0`` and ``arr_1``), or an
    ``.npy`` of images. Labels that an ``.npz`` lacks are the ``.npy`` of ``label_file``, or
    the only other array that is named like labels; without any, the images are one class.
    """

    path: str
    recipe: Recipe
    parameter: str
    label_file: str | None = None
    class_file: str | None = None
    asked: Asked = Asked()
    captioned: bool = False
    fixed: bool = False
    grouped: bool = False

    @classmethod
    def of(cls, settings: Labelled, *, data: config.Data, part: str) -> Arrays:
        """The source ``arrays``: the file at the parameter ``part``."""
        key, path = key_of(data.source.name, part), paths.plain(getattr(settings, part))
        names, asked = settings.class_names, Asked.by(data)
        return cls(path, Recipe.of(data), key, settings.labels, names, asked)

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """Those of ``class_file``; else the labels found, sorted."""
        if self.class_file is not None:
            return classes.read_names(self.class_file, beside(self.parameter, "class_names"))
        return classes.ordered(self._labels() or ())

    @property
    def fields(self) -> Fields:
        """The arrays in an ``.npz``."""
        label = self._label_array
        used = {self._image_array, label}
        ignored = tuple(name for name in npy.names(self.path) if name not in used)
        return Fields(label or (None if self.asked.unlabelled else self.label_file), ignored)

    def index(self) -> list[Entry]:
        """Every row, in order."""
        raw, names = self._labels(), self.class_names
        listed, labelled = self.class_file is not None, raw is not None
        labels = classes.Labels(names, self.parameter, listed=listed, labelled=labelled)
        entries = []
        for row in range(self._images.shape[0]):
            label, problem = labels.of(None if raw is None else raw[row])
            entries.append(Entry(f"{row:08d}", label, row, problem=problem))
        cure = f"set {self.parameter} to another file"
        return classes.settled(entries, names, self._where, "image with a label", cure)

    def stamp(self) -> str:
        """Of the files' sizes and times."""
        named = (self.path, self.label_file, self.class_file)
        return paths.digest(paths.mark(path) for path in named if path)

    def read(self, entry: Entry) -> Content:
        """One row's picture, cropped and resized as files are."""
        stored = self._images
        if not os.path.exists(stored.path):  # a temporary copy, and this is another machine
            stored = npy.located(self.path, (self._image_array or "",)) or stored
        return self.recipe.of_array(np.array(npy.mapped(stored)[entry.place]))

    @property
    def _where(self) -> str:
        return f"{self.parameter} {self.path}"

    @functools.cached_property
    def _images(self) -> npy.Stored:
        """Where the images are.

        Raises:
            DataError: they are not there, or not bytes with channels last.
        """
        if not paths.exists(self.path):
            raise paths.missing(self.path, self.parameter, "an .npz or .npy file")
        if not self.path.endswith((".npz", ".npy")):
            msg = f"{self._where} is no .npz or .npy file: save the arrays by np.savez"
            raise DataError(msg)
        name = self._image_array
        found = npy.located(self.path, (name,) if name else ())
        if found is None or (name is None and self.path.endswith(".npz")):
            msg = f"{self._where} has no array {' or '.join(_IMAGES)}; found "
            msg += few(npy.names(self.path)) or "none"
            raise DataError(f"{msg}: set {fields.IMAGE_KEY} to that of the images")
        _check(found, self._where)
        return found

    @property
    def _image_array(self) -> str | None:
        """The name of the images in an ``.npz``, if there are any."""
        names = npy.names(self.path)
        if names and self.asked.image is not None:
            fields.require(self.asked.image, names, self._where, fields.IMAGE_KEY)
            return self.asked.image
        return next((name for name in _IMAGES if name in names), None)

    @property
    def _label_array(self) -> str | None:
        """The name of the labels in an ``.npz``, if there are any."""
        names = npy.names(self.path)
        candidates = [name for name in names if name in _LABELS or fields.is_label_like(name)]
        if self.label_file is not None and self.asked.label is None:
            candidates = [name for name in candidates if name in _LABELS]
        first = next((name for name in _LABELS if name in candidates), "")
        return fields.label(self.asked, candidates, names, self._where, first)

    def _labels(self) -> list[classes.Raw] | None:
        """The label of each row as it is, or None if there are none.

        Raises:
            DataError: the labels are not one number or name for each image.
        """
        count = self._images.shape[0]
        where, found = f"labels of {self._where}", None
        if self.asked.unlabelled:
            return None
        if (name := self._label_array) is not None:
            found = npy.located(self.path, (name,))
        if found is None and self.label_file is not None:
            key = beside(self.parameter, "labels")
            where = f"{key} {self.label_file}"
            if not self.label_file.endswith(".npy"):
                msg = f"{where} is no .npy file: save the labels by np.save"
                raise DataError(msg)
            if not paths.exists(self.label_file):
                raise paths.missing(self.label_file, key, "an .npy file")
            found = npy.located(self.label_file)
        if found is None:
            return None
        if found.shape not in ((count,), (count, 1)) or found.dtype.kind not in "iubUS":
            msg = (
                f"{where}: {found.dtype} of shape {list(found.shape)}; expected integers or names, "
                f"one for each of {count} images: give each split its own, best in one .npz"
            )
            raise DataError(msg)
        values = npy.mapped(found).reshape(-1).tolist()
        if found.dtype.kind in "iub":
            return [int(value) for value in values]
        return [value if isinstance(value, str) else _text(value) for value in values]


def _text(name: bytes) -> str:
    return name.decode(errors="surrogateescape")


def _check(images: npy.Stored, where: str) -> None:
    """Refuse what is no array of pictures.

    Raises:
        DataError: it is not.
    """
    shape = images.shape
    msg = f"{where} has images of {images.dtype} and shape {list(shape)}; expected "
    if images.dtype != np.uint8:
        msg += "uint8: convert them to 0 to 255"
    elif len(shape) not in (3, 4) or (len(shape) == 4 and shape[-1] not in _CHANNELS):
        msg += "[n, h, w] or [n, h, w, c] with 1, 3 or 4 channels last: np.moveaxis moves them"
    elif not all(shape[1:]):
        msg += "a pixel at least: make them anew"
    else:
        return
    raise DataError(msg)
