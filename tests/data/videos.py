"""Video files for tests: frame k is a square of brightness 10 k in the upper left, on black."""

import io
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 10


def frames(count, height=32, width=48, channels=3):
    """Raw frames [count, height, width, channels]; alpha is a half."""
    made = np.zeros((count, height, width, channels), np.uint8)
    made[:, : height // 2, : width // 2, :3] = 10 * np.arange(count)[:, None, None, None]
    if channels == 4:
        made[..., 3] = 128
    return made


def shown(clip):
    """Which frame of :func:`frames` each frame of a clip is."""
    height, width = clip.shape[1:3]
    return (clip[:, height // 4, width // 4].mean(axis=-1) / 10).round().astype(int).tolist()


def encoded(
    images, codec="mpeg4", pixels="yuv420p", form="mp4", seconds=None, rotation=None, **options
):
    """The bytes of a video.

    Args:
        images: frames [f, h, w, 3 or 4].
        codec: its name in FFmpeg.
        pixels: the pixel format.
        form: the container.
        seconds: when each frame is shown; even times for None.
        rotation: degrees and mirroring, for the display matrix.
        options: of the container, and of the codec.
    """
    container = options.pop("container", {})
    with (
        tempfile.NamedTemporaryFile() as file,
        av.open(file.name, "w", format=form, options=container) as output,
    ):
        stream = output.add_stream(codec, rate=RATE, options=options)
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], pixels
        if rotation is not None:
            stream.set_display_rotation(rotation[0], hflip=rotation[1])
        if seconds is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, image in enumerate(images):
            name = "rgba" if image.shape[-1] == 4 else "rgb24"
            frame = av.VideoFrame.from_ndarray(image, format=name)
            if seconds is not None:
                frame.pts, frame.time_base = round(1000 * seconds[index]), Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
        output.close()
        return Path(file.name).read_bytes()


def audio():
    """An MP4 file of sound alone."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=8000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        samples.sample_rate = 8000
        output.mux(stream.encode(samples))
        output.mux(stream.encode())
    return file.getvalue()


def animation(images, form, milliseconds=100):
    """An animated GIF, WebP or PNG."""
    from PIL import Image

    file = io.BytesIO()
    first, *rest = map(Image.fromarray, images)
    lossless = {"lossless": True} if form == "webp" else {}
    first.save(
        file, form, save_all=True, append_images=rest, duration=milliseconds, loop=0, **lossless
    )
    return file.getvalue()


def write(folder, files):
    """Write ``files`` (bytes by path) below ``folder``, and return it."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
