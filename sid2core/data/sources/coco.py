"""Annotation files of COCO: boxes, masks and captions of many images in one JSON file, not read."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator

from sid2core.errors import few

_log = logging.getLogger(__name__)
_CAPTIONS = re.compile(r"captions_.+\.json", re.IGNORECASE)
_OTHERS = re.compile(
    r"(instances|person_keypoints|stuff|panoptic|image_info)_.+\.json|.+\.coco\.json", re.IGNORECASE
)


def mention(paths: Iterable[str], where: str) -> None:
    """Log how many files of boxes and masks there are, and where classes come from."""
    found = [path for path in paths if _OTHERS.fullmatch(_name(path))]
    if found:
        _log.warning(
            "%s: %d annotation file(s) of COCO are not read (%s): classes are those of folders, or "
            "of the CSV file in the parameter labels",
            where,
            len(found),
            few(found),
        )


def of_captions(paths: Iterable[str]) -> Iterator[str]:
    """What to say about files such as ``captions_train2017.json``."""
    for path in paths:
        if _CAPTIONS.fullmatch(_name(path)):
            yield f"{path} is not read; write COCO's captions as metadata.jsonl (docs/data.md)"


def _name(path: str) -> str:
    return path.rpartition("/")[2]
