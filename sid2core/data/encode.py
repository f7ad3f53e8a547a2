"""Clips as files that people look at: animated WebP, GIF, MP4, or a folder of PNG files.

WebP and PNG are lossless. A GIF has 256 colours and is lossless for grey; MP4 (H.264) is lossy.
Neither is for measuring.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sid2core.data.errors import DataError

Clip = NDArray[np.uint8]
"""[f, h, w, c] with 1 or 3 channels."""
_QUALITY = "12"
"""H.264's constant rate factor: 0 is lossless, 18 looks lossless."""


def animated(file: IO[bytes] | Path, form: str, frames: Sequence[Image.Image], times: Any) -> None:
    """Write an animation without end as WebP (lossless) or GIF; ``times`` are milliseconds."""
    # Lossless, "quality" is effort: 100 takes 10 times as long and saves 1%.
    lossless = {"lossless": True, "quality": 50} if form == "webp" else {}
    frames[0].save(
        file,
        format=form,
        save_all=True,
        append_images=frames[1:],
        duration=times,
        loop=0,
        **lossless,
    )


def picture(image: NDArray[np.uint8]) -> Image.Image:
    """An image [h, w, c] with 1 or 3 channels as Pillow has it."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def webp(path: Path, clip: Clip, rate: float) -> None:
    """Write an animated WebP, lossless; grey is stored as colour."""
    frames = [picture(one).convert("RGB") for one in clip]
    animated(path, "webp", frames, round(1000 / rate))


def gif(path: Path, clip: Clip, rate: float) -> None:
    """Write an animated GIF; its frames last whole hundredths of a second."""
    animated(path, "gif", [*map(picture, clip)], 10 * max(1, round(100 / rate)))


def png(path: Path, clip: Clip, rate: float) -> None:
    """Write a folder of ``0000.png`` and so on; it has no rate."""
    del rate
    path.mkdir()
    for number, frame in enumerate(clip):
        picture(frame).save(path / f"{number:04d}.png")


def mp4(path: Path, clip: Clip, rate: float) -> None:
    """Write H.264 in MP4. Odd sizes are stored without subsampled colour, which few players show.

    Raises:
        DataError: PyAV is not installed.
    """
    av = pyav()
    height, width = clip.shape[1:3]
    even = height % 2 == 0 and width % 2 == 0
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001))
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p" if even else "yuv444p"
        # Of several threads the bytes would depend on their number.
        stream.options = {"crf": _QUALITY, "threads": "1"}
        for frame in np.broadcast_to(clip, (*clip.shape[:3], 3)):
            encoded = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(encoded))
        container.mux(stream.encode())


def pyav() -> Any:
    """The package that writes MP4.

    Raises:
        DataError: it is not installed.
    """
    try:
        return importlib.import_module("av")
    except ImportError:
        msg = (
            "mp4 needs PyAV: run `pip install -c constraints.txt -e '.[video]'`; webp, gif, frames"
        )
        raise DataError(f"{msg} and npz need nothing more") from None


ENCODERS: Mapping[str, Callable[[Path, Clip, float], None]] = {
    "webp": webp,
    "gif": gif,
    "mp4": mp4,
    "frames": png,
}
"""By the name of the format: (path, clip, frames per second)."""
SUFFIXES = {"webp": ".webp", "gif": ".gif", "mp4": ".mp4", "frames": ""}
"""How the name of a clip ends; a clip of frames is a folder."""
