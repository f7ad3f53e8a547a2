"""Files of drawn samples, which contain the requests that produced them.

Where the metadata are: in a text chunk of PNG, an entry of npz, the schema of Parquet, the comment
of GIF and MP4, the XMP packet of WebP. All are JSON with ``requests`` and ``layout``.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from sid2core import atomic
from sid2core.data import encode
from sid2core.inference.request import Request, RequestError
from sid2core.metrics import sample_files

_KEY, _PARQUET_KEY = "sid2", b"sid2.drawn"
"""Parquet's ``sid2`` is the layout of the records."""
_SINGLE = (".png", ".gif", ".webp", ".mp4")

Layout = Mapping[str, Any]
"""``grid`` and ``rate`` of the files, and ``example``, the number of the one in a file."""


def check(path: Path, layout: Layout, *, force: bool = False) -> None:
    """Refuse a path before anything is drawn.

    Raises:
        RequestError: it is taken, or no format has its ending.
    """
    suffix = path.suffix.lower()
    known = (*_SINGLE, ".npz", ".parquet")
    if suffix and suffix not in known:
        msg = f"--out: {path} ends in {suffix}; expected a folder, or one of {', '.join(known)}"
        raise RequestError(msg)
    if layout["grid"] and suffix != ".png":
        msg = f"--grid: found --out {path}; expected a file that ends in .png"
        raise RequestError(msg)
    if suffix == ".mp4":
        encode.pyav()
    taken = any(path.iterdir()) if path.is_dir() else path.exists()
    if taken and (not force or (path.is_dir() and suffix)):
        msg = f"--out: {path} exists already; choose another place, or replace it by --force"
        raise RequestError(msg)
    if taken and path.is_dir():
        others = [one.name for one in path.iterdir() if not one.name[:5].isdecimal()]
        if others:
            msg = f"--out: {path} contains {others[0]}, which is no sample; choose another place"
            raise RequestError(msg)


def check_samples(path: Path, layout: Layout, count: int, *, clips: bool) -> None:
    """Refuse a path whose format cannot hold so many samples.

    Raises:
        RequestError: another is needed.
    """
    suffix = path.suffix.lower()
    if suffix not in _SINGLE:
        return
    if layout["grid"] and clips:
        msg = f"--grid: {path} is for images, and these are clips; give a folder or .npz"
        raise RequestError(msg)
    if not layout["grid"] and layout.get("example") is None and count != 1:
        msg = f"--out: {path} holds one sample, and there are {count}; give a folder, .npz or "
        raise RequestError(f"{msg}.parquet, or --grid with .png")
    if (suffix == ".png") == clips:
        kind, other = ("clip", ".gif, .webp or .mp4") if clips else ("image", ".png")
        msg = f"--out: {suffix} does not hold one {kind}; expected a folder or {other}"
        raise RequestError(msg)


def write(
    path: Path,
    parts: Sequence[NDArray[np.uint8]],
    requests: Sequence[Request],
    layout: Layout,
    *,
    names: Sequence[str] = (),
) -> None:
    """Write the samples of all requests, or nothing.

    Args:
        path: a file or, without an ending, a folder.
        parts: the samples of each request.
        requests: completed ones.
        layout: how they are arranged.
        names: of the model's classes.

    Raises:
        RequestError: as :func:`check_samples`.
    """
    samples = np.concatenate(parts)
    check_samples(path, layout, len(samples), clips=samples.ndim == 5)
    labels, words = _labels(parts, requests, names)
    suffix, clips = path.suffix.lower(), samples.ndim == 5
    only = layout.get("example")
    about = _about(requests, layout)
    with atomic.unfinished(path.absolute()) as made:
        if suffix in (".npz", ".parquet"):
            one = sample_files.Samples(
                len(samples), samples.shape[1:], words, [(samples, labels)], layout["rate"]
            )
            sample_files.WRITERS[suffix[1:]](made, one)
            (_mark_npz if suffix == ".npz" else _mark_parquet)(made, about)
        elif suffix:
            if layout["grid"]:
                rows = len(parts) if len(parts) > 1 else len({*(requests[0].label or [0])})
                image = _grid(samples, rows)
            else:
                image = samples[only or 0]
            _save(made, suffix, image, about, layout["rate"])
        else:
            made.mkdir()
            ending = ".webp" if clips else ".png"
            for number, (sample, label) in enumerate(zip(samples, labels, strict=True)):
                said = _about(requests, {**layout, "example": number})
                name = f"{number:05d}-{label}{ending}"
                _save(made / name, ending, sample, said, layout["rate"])
        atomic.put(made, path.absolute())


def read(path: Path) -> tuple[list[Request], dict[str, Any]]:
    """The requests of a file that :func:`write` wrote, and its layout.

    Raises:
        RequestError: it cannot be read, or has no metadata.
    """
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        msg = f"--like: {path} is no file of `sid2 sample`; expected one of {', '.join(_READERS)}"
        raise RequestError(msg)
    try:
        found = _READERS[suffix](path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        found, reason = None, f" ({type(error).__name__})"
    else:
        reason = ""
    if not found:
        msg = f"--like: {path} does not say how it was drawn{reason}; expected a file as `sid2 "
        raise RequestError(f"{msg}sample` wrote it: other programs may remove metadata")
    try:
        about = json.loads(found)
        requests = [Request.from_json(json.dumps(one)) for one in about["requests"]]
        layout = dict(about["layout"])
    except (ValueError, KeyError, TypeError):
        msg = f"--like: the metadata of {path} are damaged; expected JSON of `sid2 sample`"
        raise RequestError(msg) from None
    if not requests or not {"grid", "rate"} <= set(layout):
        msg = f"--like: the metadata of {path} are incomplete; expected requests and layout"
        raise RequestError(msg)
    return requests, layout


def _about(requests: Sequence[Request], layout: Layout) -> str:
    rows = [json.loads(one.to_json()) for one in requests]
    return json.dumps({"requests": rows, "layout": dict(layout)}, separators=(",", ":"))


def _labels(
    parts: Sequence[NDArray[np.uint8]], requests: Sequence[Request], names: Sequence[str]
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """The label of each sample, and the names of the labels."""
    first = requests[0]
    if first.prompt or first.given or len(parts) > 1:
        words = tuple(
            f"{number}: {one.prompt[0] if one.prompt else one.given}"
            for number, one in enumerate(requests)
        )
        return np.repeat(np.arange(len(parts), dtype=np.int32), list(map(len, parts))), words
    count = len(parts[0])
    if first.label is not None:
        labels = np.resize(np.asarray(first.label, np.int32), count)
    else:
        labels = np.arange(count, dtype=np.int32) % max(1, len(names))
    words = tuple(names) or tuple(map(str, range(int(labels.max()) + 1)))
    return labels, words


def _grid(samples: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
    """[r h, c w, k] of samples [r c, h, w, k], row by row."""
    if rows == 1 or len(samples) % rows:
        rows = max(one for one in range(1, len(samples) + 1) if one * one <= len(samples))
    columns = -(-len(samples) // rows)
    height, width, channels = samples.shape[1:]
    full = np.zeros((rows * columns, height, width, channels), np.uint8)
    full[: len(samples)] = samples
    tiles = full.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return tiles.reshape(rows * height, columns * width, channels)


def _save(path: Path, suffix: str, sample: NDArray[np.uint8], about: str, rate: float) -> None:
    """One image or clip as a file with its metadata."""
    if suffix == ".png":
        text = PngImagePlugin.PngInfo()
        text.add_text(_KEY, about)
        encode.picture(sample).save(path, "png", pnginfo=text)
    elif suffix == ".mp4":
        _mp4(path, sample, about, rate)
    else:
        _animated(path, suffix, sample, about, rate)


def _animated(path: Path, suffix: str, clip: NDArray[np.uint8], about: str, rate: float) -> None:
    frames = [*map(encode.picture, clip)]
    shared = {"save_all": True, "loop": 0}
    if suffix == ".gif":
        time = 10 * max(1, round(100 / rate))
        more = {"comment": about.encode(), "append_images": frames[1:], "duration": time}
        frames[0].save(path, "gif", **shared, **more)
        return
    colour = [one.convert("RGB") for one in frames]
    more = {"xmp": about.encode(), "append_images": colour[1:], "duration": round(1000 / rate)}
    colour[0].save(path, "webp", lossless=True, quality=50, **shared, **more)


def _mp4(path: Path, clip: NDArray[np.uint8], about: str, rate: float) -> None:
    """The file of :func:`sid2core.data.encode.mp4`, its packets copied beside a comment."""
    av = encode.pyav()
    with atomic.unfinished(path) as plain:
        encode.mp4(plain, clip, rate)
        with av.open(str(plain)) as source, av.open(str(path), "w", format="mp4") as target:
            target.metadata["comment"] = about
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)


def _mark_npz(path: Path, about: str) -> None:
    name = zipfile.ZipInfo(f"{_KEY}.npy")
    with zipfile.ZipFile(path, "a") as archive, archive.open(name, "w") as file:
        np.lib.format.write_array(file, np.array(about), allow_pickle=False)


def _mark_parquet(path: Path, about: str) -> None:
    import pyarrow.parquet as pq

    with atomic.unfinished(path) as marked:
        source = pq.ParquetFile(path)
        kept = source.schema_arrow.metadata or {}
        schema = source.schema_arrow.with_metadata({**kept, _PARQUET_KEY: about.encode()})
        with pq.ParquetWriter(marked, schema, write_page_checksum=True) as writer:
            for group in range(source.num_row_groups):
                writer.write_table(source.read_row_group(group).cast(schema))
        source.close()
        atomic.put(marked, path)


def _of_picture(key: str) -> Callable[[Path], str | None]:
    def found(path: Path) -> str | None:
        with Image.open(path) as picture:
            value = picture.info.get(key)
        return value.decode() if isinstance(value, bytes) else value

    return found


def _of_mp4(path: Path) -> str | None:
    with encode.pyav().open(str(path)) as container:
        text: str | None = container.metadata.get("comment")
    return text


def _of_npz(path: Path) -> str:
    with np.load(path, allow_pickle=False) as archive:
        return str(archive[_KEY])


def _of_parquet(path: Path) -> str:
    import pyarrow.parquet as pq

    return (pq.read_schema(path).metadata or {})[_PARQUET_KEY].decode()


_READERS: Mapping[str, Callable[[Path], str | None]] = {
    ".png": _of_picture(_KEY),
    ".gif": _of_picture("comment"),
    ".webp": _of_picture("xmp"),
    ".mp4": _of_mp4,
    ".npz": _of_npz,
    ".parquet": _of_parquet,
}
"""By the ending of the file."""
