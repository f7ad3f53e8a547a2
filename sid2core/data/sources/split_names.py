"""Names of splits among folders and files: ``train`` and ``val`` are not classes.

Images of several splits under one path would train on what they are evaluated with, so they are
refused with the two paths to set.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from sid2core.data.errors import DataError
from sid2core.data.sources.protocol import beside
from sid2core.data.storage.globbing import File
from sid2core.errors import few, printable

_log = logging.getLogger(__name__)
_ORDER = ("train", "validation", "dev", "test")
"""The order in which to choose a split to train on and one to evaluate with."""
_CANONICAL = {
    "training": "train",
    "valid": "validation",
    "val": "validation",
    "eval": "validation",
    "testing": "test",
}
_NAMES = "training|train|validation|valid|val|dev|testing|test|eval"
_WHOLE = re.compile(rf"({_NAMES})([-_ ]?(set|split|data|images?))?\d*", re.IGNORECASE)
_IMAGES = re.compile(r"(jpe?g|png)?(images?|imgs?)", re.IGNORECASE)
_MASKS = re.compile(
    r"masks?|labels?|annotations?|segmentations?(class|object)?|trimaps?|ground_?truth|gt",
    re.IGNORECASE,
)
_PREFIXED = re.compile(r"([^\W\d][^\d.]*?)[-_ ]*\d+\.\w+")
_NAMED = 10_000
"""Names that are looked at."""
_PART = re.compile(rf"(?:^|[-_.])({_NAMES})(?=[-_.]|$)", re.IGNORECASE)


def among(names: Iterable[str], *, alone: bool = True) -> dict[str, str]:
    """The folders that are splits: the first name of each split, in the order to choose them.

    A name such as ``train`` or ``test_set`` is one. A name that only contains one, such as
    ``seg_train``, counts if half of all names do. A single split among other names is a class,
    ``alone`` it is a split.
    """
    names = list(names)
    found = _by_split((name, _WHOLE.fullmatch(name)) for name in names)
    if len(found) < 2 and not (found and alone and len(names) == 1):
        found = _by_split((name, _PART.search(name)) for name in names)
        if len(found) < 2 or 2 * len(found) < len(names):
            return {}
    return {split: found[split] for split in _ORDER if split in found}


def check_folders(
    names: Iterable[str],
    join: Callable[[str], str],
    where: str,
    parameter: str,
    *,
    escape: str = "",
    alone: bool = True,
) -> None:
    """Refuse folders that are named like splits; see :func:`among`.

    Args:
        names: the folders at the level of the classes.
        join: from a name to the path to set.
        where: the parameter and the path, for messages.
        parameter: the key of the path.
        escape: another cure, for data whose classes have these names.
        alone: whether a single folder of such a name is refused as well.

    Raises:
        DataError: there are several splits, or nothing but one.
    """
    found = among(names, alone=alone)
    if found:
        paths = {split: join(name) for split, name in found.items()}
        raise _refused(paths, list(found.values()), "folders", where, parameter, escape)


def check_masks(
    names: Iterable[str], join: Callable[[str], str], where: str, parameter: str, *, escape: str
) -> None:
    """Refuse a folder of images beside one of their masks, as data for segmentation have them.

    Args:
        names: the folders at the level of the classes.
        join: from a name to the path to set.
        where: the parameter and the path, for messages.
        parameter: the key of the path.
        escape: another cure, for data whose classes have these names.

    Raises:
        DataError: there are both.
    """
    names = list(names)
    images = [name for name in names if _IMAGES.fullmatch(name) or _WHOLE.fullmatch(name)]
    masks = [name for name in names if _MASKS.fullmatch(name)]
    if images and masks:
        msg = f"{where} holds folders ({few(names)}) of images and their masks, which are no "
        raise DataError(f"{msg}classes: set {parameter} to {printable(join(images[0]))}{escape}")


def check_inside(
    inside: Mapping[str, Iterable[str]], where: str, parameter: str, *, escape: str
) -> None:
    """Refuse class folders that hold the splits, as MVTec AD has ``bottle/train``, ``bottle/test``.

    Args:
        inside: the names of the folders in some class folders, by the path of the class folder.
        where: the parameter and the path, for messages.
        parameter: the key of the path.
        escape: another cure, for data of which all images are to be used.

    Raises:
        DataError: half of the class folders hold folders of several splits.
    """
    found = {path: among(names, alone=False) for path, names in inside.items()}
    split = {path: splits for path, splits in found.items() if splits}
    if 2 * len(split) > len(inside):
        path, splits = next(iter(split.items()))
        names = few(f"{path.rpartition('/')[2]}/{name}" for name in splits.values())
        msg = f"{where}: class folders hold folders ({names}), which are splits and not classes"
        cure = f"rename <class>/<split> to <split>/<class>, or set {parameter} to one class folder"
        raise DataError(f"{msg}: {cure}, such as {printable(path)}{escape}")


def mention_prefixes(paths: Iterable[str], where: str) -> None:
    """Log that names of unlabelled images, such as ``cat_001.png``, begin with a few words."""
    stems = (path.rpartition("/")[2] for path in itertools.islice(paths, _NAMED))
    matches = [_PREFIXED.fullmatch(stem) for stem in stems]
    words = Counter(match[1] for match in matches if match)
    if 1 < len(words) and 2 * len(words) <= len(matches) == words.total():
        _log.warning(
            "%s: images are unlabelled, but their names begin with %d words (%s): if these are "
            "classes, give each a folder, or set the parameter labels of the source to a CSV file",
            where,
            len(words),
            few(words),
        )


def check_files(files: Iterable[File], where: str, parameter: str) -> None:
    """Refuse files of several splits: those in folders, or with names, such as ``train-00.tar``.

    Raises:
        DataError: they are.
    """
    found = dict[str, str]()
    for file in files:
        *folders, name = file.name.split("/")
        inside = (_WHOLE.fullmatch(folder) for folder in folders)
        place = next((place for place, one in enumerate(inside) if one), None)
        if place is not None:
            split, below = folders[place], "/".join([*folders[place + 1 :], name])
            found.setdefault(_split(split), file.path.removesuffix(f"/{below}"))
        elif match := _PART.search(name):
            pattern = f"{name[: match.end() + 1]}*"
            found.setdefault(_split(match[1]), f"{file.path.removesuffix(name)}{pattern}")
    if len(found) > 1:
        raise _refused(found, sorted(found), "files of several splits", where, parameter, "")


def _split(name: str) -> str:
    match = _WHOLE.fullmatch(name)
    word = (match[1] if match else name).lower()
    return _CANONICAL.get(word, word)


def _by_split(matches: Iterable[tuple[str, re.Match[str] | None]]) -> dict[str, str]:
    """The first name of each split."""
    found: dict[str, str] = {}
    for name, match in matches:
        if match is not None:
            found.setdefault(_split(match[1]), name)
    return found


def _refused(
    found: dict[str, str], names: list[str], what: str, where: str, parameter: str, escape: str
) -> DataError:
    order = sorted(found, key=_ORDER.index)
    keys = [beside(parameter, part) for part in ("path", "eval_path")]
    cures = [f"{key} to {printable(found[split])}" for key, split in zip(keys, order, strict=False)]
    msg = f"{where} holds {what} ({few(names)}), which are splits and not classes"
    return DataError(f"{msg}: set {' and '.join(cures)}{escape}")
