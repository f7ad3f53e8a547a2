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

import functools
import gc
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sid2core.data.decode import formats
from sid2core.data.decode.decoding import Recipe, blaming_the_file
from sid2core.data.decode.video import files
from sid2core.data.decode.video.windows import Windows
from sid2core.data.errors import DataError, Unusable
from sid2core.data.sources.protocol import Content
from sid2core.data.storage import stand_ins

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_PASSES = 3
_OPTIONS = {"protocol_whitelist": "none"}
"""So that a playlist opens no other file and no address."""
_DAMAGED = "it is damaged or cut off"
_MILLISECONDS = 100
"""Of a picture in an animation that states no duration, as browsers have it."""


class Frame(NamedTuple):
    """One frame of a video; it is converted only if ``pixels`` is called."""

    time: float
    """When it is shown, in seconds."""
    pixels: Callable[[], NDArray[np.uint8]]
    """Makes upright pixels [h, w, 3 or 4 (RGBA)]."""


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
        reader = Animation(file, recipe) if files.is_picture(start) else Container(file, recipe)
        return _clips(reader, recipe, windows)
    finally:
        # PyAV's streams and containers refer to each other, so decoders live until they are found.
        gc.collect(1)


def _clips(reader: Animation | Container, recipe: Recipe, windows: Windows) -> list[Content]:
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


@dataclass
class Container:
    """A file that FFmpeg reads; each pass opens it anew and closes it.

    ``end`` says why the last pass over the frames ended before the end of the file, if it did.
    """

    file: BinaryIO
    recipe: Recipe
    end: str | None = None

    def times(self) -> list[float]:
        """When frames are shown, by the packets; nothing if packets do not say it."""
        with closing(self._opened()) as container:
            stream = _stream(container)
            pts = [packet.pts for packet in self._packets(container, stream) if packet.size]
        known = [one for one in pts if one is not None]
        if len(known) < len(pts):
            return []
        return [float(one * (stream.time_base or 0)) for one in sorted(known)]

    def frames(self) -> Generator[Frame, None, None]:
        """Frames in the order in which they are shown, up to the first damaged one."""
        with closing(self._opened()) as container:
            stream = _stream(container)
            self.recipe.check(stream.codec_context.width, stream.codec_context.height)
            rate = float(stream.guessed_rate or 25)
            ratio = float(stream.sample_aspect_ratio or 1)
            for number, frame in enumerate(self._shown(container, stream)):
                if frame.is_corrupt:
                    self.end = _DAMAGED
                    return
                self.recipe.check(frame.width, frame.height)
                pts, base = frame.pts, frame.time_base
                time = number / rate if pts is None or base is None else float(pts * base)
                yield Frame(time, functools.partial(_pixels, frame, ratio))

    def _opened(self) -> InputContainer:
        check_installed()
        import av

        self.file.seek(0)
        self.end = None
        try:
            return av.open(self.file, "r", options=_OPTIONS, metadata_errors="replace")
        except av.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            if files.lacks_index(self.file):
                reason = "no index (moov atom): it was cut off before the end was written"
            else:
                reason = f"no video that FFmpeg reads: {error.strerror}"
            raise Unusable(reason) from None

    def _packets(self, container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
        """The packets up to the first damaged one; the last, of size 0, flushes the decoder."""
        import av

        try:
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    self.end = _DAMAGED
                    return
                if not packet.is_discard:
                    yield packet
        except av.FFmpegError as error:
            self._ended(error)

    def _shown(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        """The decoded frames, up to the first packet that cannot be decoded."""
        import av

        try:
            for packet in self._packets(container, stream):
                yield from stream.decode(packet)
        except av.FFmpegError as error:
            self._ended(error)
        if self.end is not None:  # what the decoder still holds
            try:
                yield from stream.decode(None)
            except av.FFmpegError as error:
                self._ended(error)

    def _ended(self, error: Exception) -> None:
        if isinstance(error, MemoryError):
            raise error
        self.end = f"decoding ends with: {getattr(error, 'strerror', error)}"


@dataclass
class Animation:
    """An animated picture (GIF, WebP, APNG) by Pillow, which composes its frames.

    ``end`` says why the last pass over the frames ended before the end of the file, if it did.
    """

    file: BinaryIO
    recipe: Recipe
    end: str | None = None

    def times(self) -> list[float]:
        """When frames are shown."""
        return [frame.time for frame in self.frames()]

    def frames(self) -> Generator[Frame, None, None]:
        """Frames in their order, up to the first damaged one."""
        self.end = None
        with blaming_the_file():
            image = formats.opened(self.file)
            self.recipe.check(*image.size)
            count = getattr(image, "n_frames", 1)
        milliseconds = 0
        for index in range(count):
            try:
                with blaming_the_file():
                    image.seek(index)
                    image.load()
            except Unusable as error:
                self.end = str(error)
                return
            yield Frame(milliseconds / 1000, lambda: np.asarray(image.convert("RGBA")))
            milliseconds += int(image.info.get("duration") or _MILLISECONDS)


def _stream(container: InputContainer) -> VideoStream:
    """The first stream of moving pictures, set to decode in one thread."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:  # the cover of an album
            continue
        # Without a codec context FFmpeg would crash, and threads hold frames of their own.
        if stream.codec_context is None:
            msg = "its first frame is cut off, or no decoder reads it"
            raise Unusable(msg)
        stream.codec_context.thread_count = 1
        return stream
    msg = "no video in it, only audio" if container.streams.audio else "no video in it"
    raise Unusable(msg)


def _pixels(frame: VideoFrame, ratio: float) -> NDArray[np.uint8]:
    """Upright pixels [h, w, 3 or 4]; ``ratio`` is the width of a stored pixel by its height."""
    from av.video.reformatter import Interpolation

    clear = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
    made = frame.reformat(
        width=max(1, round(frame.width * ratio)),
        format="rgba" if clear else "rgb24",
        # The same bytes on every processor.
        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT,
    )
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    pixels = np.asarray(made.to_ndarray(), np.uint8)
    return pixels if matrix is None else upright(pixels, np.frombuffer(bytes(matrix), np.int32))


def upright(pixels: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """``pixels`` [h, w, c] rotated and mirrored by a display matrix (a, b, u, c, d, v, x, y, w).

    A point moves from (p, q) to (a p + c q, b p + d q), rightward and downward.

    Raises:
        Unusable: the matrix rotates by no multiple of 90 degrees.
    """
    a, b, _, c, d, *_ = matrix.tolist()
    if not (b or c):
        down, right = d < 0, a < 0
    elif not (a or d):
        pixels, down, right = pixels.transpose(1, 0, 2), b < 0, c < 0
    else:
        msg = "its display matrix rotates it by no multiple of 90 degrees"
        raise Unusable(msg)
    return pixels[:: -1 if down else 1, :: -1 if right else 1]
