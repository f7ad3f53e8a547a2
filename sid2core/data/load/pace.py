"""Which frames of video files make a clip, as prepared data, statistics and models record it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VIDEOS = "videos"
"""The entry of a model's ``config.json``; models of other data have none."""


def of_prepared(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """``frame_stride`` and ``frames_per_second`` (None: each file's own rate); {} without videos.

    Args:
        metadata: of the prepared data.
    """
    decoding = metadata.get("decoding", {})
    names = ("frame_stride", "frames_per_second")
    return {name: decoding[name] for name in names if name in decoding}


def of_model(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The same as an entry of the ``config.json`` of a model that is trained on the data."""
    found = of_prepared(metadata)
    return {VIDEOS: found} if found else {}
