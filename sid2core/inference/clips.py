"""Clips of the public ``sample``: frames that a user gives, and clips longer than trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sid2core.conditioning import Condition, ConditionError, Given, GivenKind
from sid2core.data.decode import formats
from sid2core.data.decode.decoding import Recipe
from sid2core.data.decode.video import decoding
from sid2core.data.decode.video.windows import Windows
from sid2core.data.errors import DataError, Unusable
from sid2core.data.load import pace
from sid2core.data.sources.folders import natural
from sid2core.models.architecture import UViTConfig

_MOST_PIXELS = 89_478_485
"""Of a frame: the default of ``data.max_pixels``."""

Clips = NDArray[np.uint8]
"""[n, f, h, w, c]."""


def condition_of(
    given: NDArray[Any] | str | Path,
    kind: GivenKind,
    count: int,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Given:
    """The given frames of ``count`` clips.

    Args:
        given: frames [k, h, w, c] of all clips, [n, k, h, w, c] of each, or a path for
            :func:`read`; of a path the first k frames are used.
        kind: their number and shape.
        count: how many clips.
        settings: the model's ``config.json``.

    Raises:
        ConditionError: the frames are of another shape or type, or cannot be read.
    """
    if isinstance(given, str | Path):
        given = read(Path(given), kind, settings)
    found, expected = np.asarray(given), kind.shape
    if found.dtype != np.uint8 or found.shape not in (expected, (count, *expected)):
        msg = f"given: found {found.dtype} {list(found.shape)}; expected uint8 {list(expected)}"
        raise ConditionError(f"{msg}, or {[count, *expected]} with frames for each clip")
    frames = np.broadcast_to(found, (count, *expected))
    return Given(np.ascontiguousarray(frames), np.ones(count, bool))


def read(
    path: Path, kind: GivenKind, settings: Mapping[str, Any] = MappingProxyType({})
) -> NDArray[np.uint8]:
    """The first frames of a clip on disk, [k, h, w, c], cropped and resized as ``adm`` does.

    A folder of pictures in natural order of their names, a video (with the extra ``video``), an
    animation (GIF, WebP, APNG), or an array [f, h, w, c] in a .npy file. Frames of a video or an
    animation are chosen by the stride and the rate of the training data, which ``settings``, the
    model's ``config.json``, records.

    Raises:
        ConditionError: there is no such path, it cannot be read, or it has too few frames.
    """
    frames, height, width, channels = kind.shape
    recipe = Recipe(height, width, channels, "adm", "white", "exact", _MOST_PIXELS)
    try:
        paced = settings.get(pace.VIDEOS, {})
        windows = Windows(frames, paced.get("frame_stride", 1), paced.get("frames_per_second"))
        found = _pictures(path, windows, recipe)
    except (OSError, EOFError, ValueError, DataError, Unusable) as error:
        msg = f"given: {path} cannot be read ({error}); expected a folder of pictures, a video, "
        raise ConditionError(f"{msg}an animation (GIF, WebP) or a .npy file") from None
    if len(found) < frames:
        msg = f"given: {path} has {len(found)} frame(s); expected {frames} or more"
        raise ConditionError(msg)
    return np.stack(found)


def _pictures(path: Path, windows: Windows, recipe: Recipe) -> list[NDArray[np.uint8]]:
    frames = windows.frames
    if path.is_dir():
        pictures = [one for one in path.iterdir() if _is_picture(one)]
        files = sorted(pictures, key=_by_name)[:frames]
        found = []
        for file in files:
            with file.open("rb") as opened:
                found.append(recipe.image(opened).image)
        return found
    if path.suffix == ".npy":
        clip = np.load(path)
        if not clip.ndim:
            raise Unusable("a single number")
        return [recipe.of_array(frame).image for frame in clip[:frames]]
    with path.open("rb") as opened:
        return [*decoding.clips(opened, recipe, windows)[0].image]


def _is_picture(path: Path) -> bool:
    """By its name; what an operating system leaves in a folder is hidden or has another ending."""
    return formats.is_usual(path.name) and not path.name.startswith(".")


def _by_name(path: Path) -> Any:
    return natural(path.name)


def windows(frames: int | None, shape: UViTConfig) -> int:
    """How many windows a clip of ``frames`` frames takes; None is one window."""
    if frames is None:
        return 1
    given = shape.given_frames
    return max(1, math.ceil((frames - given) / (shape.positions_shape[0] - given)))


def continued(
    draw: Callable[[int, Condition], Clips], condition: Condition, frames: int | None
) -> Clips:
    """Clips of ``frames`` frames, window by window.

    The last k drawn frames are the given frames of the next window; k is the number of frames
    that the model is given.

    Args:
        draw: the window's index and condition to whole clips [n, k + f, h, w, c].
        condition: of the first window.
        frames: of each clip; None for one window.
    """
    clips = draw(0, condition)
    window = 1
    while frames is not None and clips.shape[1] < frames and condition.given is not None:
        count = condition.given.frames.shape[1]
        given = Given(np.ascontiguousarray(clips[:, -count:]), np.ones(len(clips), bool))
        more = draw(window, condition._replace(given=given))
        clips = np.concatenate([clips, more[:, count:]], axis=1)
        window += 1
    return clips[:, :frames]
