"""From a video file to the pixels of its clips.

1. The times of all frames are read from the packets, without decoding (of GIF, animated WebP and
   APNG, by decoding). What the header says about number and rate of frames is not used.
2. Frames are chosen by their times: :mod:`sid2core.data.decode.video.windows`.
3. Frames are decoded one after another in the order in which they are shown, by one thread, without
   seeking, up to the last chosen one. Decoding ends at the first packet or frame that is damaged or
   cut off; what comes before it is the usable part, and frames are chosen anew from it.
4. A chosen frame is converted to 8 bits RGB by the colour matrix that the file states (BT.601 where
   it states none), with square pixels, rotated and mirrored by the display matrix, and then treated
   like a picture: composed over ``background``, resized and cropped.

At any time memory holds one decoded frame and those that its decoder refers to (at most 16 in
H.264 and H.265), 8 bytes for the time of each frame, and the finished clips of one video.
"""

from __future__ import annotations

import gc
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any, BinaryIO

import numpy as np

from sid2core import stand_ins
from sid2core.data.decode.decoding import Recipe
from sid2core.data.decode.video import files
from sid2core.data.decode.video.readers import Animation, Frame, Reader
from sid2core.data.decode.video.windows import Windows
from sid2core.data.errors import DataError, Unusable
from sid2core.data.sources.protocol import Content

_PASSES = 3


def check_installed() -> None:
    """Refuse videos where PyAV is not installed.

    Raises:
        DataError: with the command that installs it.
    """
    try:
        import av  # noqa: F401
    except ImportError as error:
        msg = "video files need PyAV, which is not installed: pip install 'sid2[video]'"
        raise DataError(msg) from error


def metadata(windows: Windows) -> Mapping[str, Any]:
    """What the manifest says of decoding: the libraries, and how frames are chosen."""
    import av

    return {
        "animation": "all frames",
        "orientation": "display matrix",
        "frames": windows.frames,
        "frame_stride": windows.stride,
        "frames_per_second": windows.frames_per_second,
        "clips_per_video": windows.per_video,
        "pyav": av.__version__,
        **{name: ".".join(map(str, version)) for name, version in av.library_versions.items()},
    }


def clips(file: BinaryIO, recipe: Recipe, windows: Windows) -> list[Content]:
    """The clips [f, h, w, c] of the video in ``file``, which can seek; at least one.

    There are fewer than ``windows.per_video`` if it has no room for so many different ones.

    Raises:
        Unusable: it is no video, or it is too short.
        DataError: PyAV is needed and not installed.
        OSError: reading failed for a reason that is not the file's own.
    """
    file.seek(0)
    start = file.read(stand_ins.START)
    other = stand_ins.recognised(start) or files.other(start)
    if other is not None:
        raise Unusable(other)
    try:
        return _clips(_reader(file, recipe, start), recipe, windows)
    finally:
        # PyAV's streams and containers refer to each other, so decoders live until they are found.
        gc.collect(1)


def _reader(file: BinaryIO, recipe: Recipe, start: bytes) -> Reader:
    if files.is_picture(start):
        return Animation(file, recipe)
    check_installed()
    from sid2core.data.decode.video.container import Container

    return Container(file, recipe)


def _clips(reader: Reader, recipe: Recipe, windows: Windows) -> list[Content]:
    times = reader.times()
    for _ in range(_PASSES):
        chosen = windows.chosen(np.array(times))
        contents, seen = _decoded(reader.frames(), set(chosen.ravel().tolist()), times, recipe)
        if contents and seen == times[: len(seen)]:
            return [_stacked([contents[index] for index in clip]) for clip in chosen.tolist()]
        if seen == times:
            raise Unusable(_too_short(windows, times, reader.end))
        times = seen
    msg = "its frames have other times whenever they are decoded"
    raise Unusable(msg)


def _decoded(
    frames: Generator[Frame, None, None], chosen: set[int], times: list[float], recipe: Recipe
) -> tuple[dict[int, Content], list[float]]:
    """The frames ``chosen`` by index, and the times of all frames that were decoded.

    Decoding stops at the last of the chosen ones, if the times until then were those expected.
    """
    contents, seen, last = dict[int, Content](), list[float](), max(chosen, default=-1)
    with closing(frames):
        for index, frame in enumerate(frames):
            seen.append(max(frame.time, seen[-1]) if seen else frame.time)
            if index in chosen:
                contents[index] = recipe.of_array(frame.pixels())
            if index == last and seen == times[: last + 1]:
                break
    return contents if len(contents) == len(chosen) else {}, seen


def _stacked(frames: list[Content]) -> Content:
    return Content(np.stack([frame.image for frame in frames]), frames[0].size)


def _too_short(windows: Windows, times: list[float], end: str | None) -> str:
    points, because = windows.points(np.array(times)), "" if end is None else f"; {end}"
    if not points:
        return f"no frame can be decoded{because}"
    rate = windows.frames_per_second
    at = "" if rate is None else f" at {rate:g} a second"
    return (
        f"{points} frame(s){at}; {windows.frames} at stride {windows.stride} need "
        f"{windows.needed}{because}"
    )
