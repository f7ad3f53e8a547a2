"""Reads a video file by PyAV, which is an extra: imported only where there is a file to read."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from sid2core.data.decode.decoding import Recipe
from sid2core.data.decode.video import files
from sid2core.data.decode.video.readers import Frame
from sid2core.data.errors import Unusable

_OPTIONS = {"protocol_whitelist": "none"}
"""So that a playlist opens no other file and no address."""
_DAMAGED = "it is damaged or cut off"


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
                self.recipe.check(_width(frame, ratio), frame.height)
                pts, base = frame.pts, frame.time_base
                time = number / rate if pts is None or base is None else float(pts * base)
                yield Frame(time, functools.partial(_pixels, frame, ratio))

    def _opened(self) -> InputContainer:
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


def _stream(container: InputContainer) -> VideoStream:
    """The first stream of moving pictures, set to decode in one thread."""
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


def _width(frame: VideoFrame, ratio: float) -> int:
    """Of a frame with square pixels."""
    return max(1, round(frame.width * ratio))


def _pixels(frame: VideoFrame, ratio: float) -> NDArray[np.uint8]:
    """Upright pixels [h, w, 3 or 4]; ``ratio`` is the width of a stored pixel by its height."""
    clear = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
    made = frame.reformat(
        width=_width(frame, ratio),
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
