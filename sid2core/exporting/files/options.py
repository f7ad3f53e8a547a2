"""What the drawing programs of exports have in common: options, conditions and pictures.

It needs NumPy, and for prompts ``tokenizers``.
"""

from __future__ import annotations

import argparse
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def parsed(description: str | None) -> argparse.Namespace:
    """The options of every drawing program."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    add = parser.add_argument
    add("--class", dest="labels", nargs="+", metavar="NAME|INDEX", help="all in turn by default")
    add("--prompt", dest="text", nargs="+", metavar="TEXT")
    add("--given", metavar="FILE.npy", help="the frames that clips begin with, bytes [k, h, w, c]")
    add("--condition", metavar="FILE.npz", help="arrays [count, …] by name, as in null.npz")
    add("--count", type=int, default=1, metavar="N", help="examples")
    add("--seed", type=int, default=0, metavar="S", help="of the noise")
    add("--guidance", type=float, metavar="G", help="its weight; the export's own by default")
    add("--out", type=Path, default=Path("drawn.png"), metavar="FILE", help=".png or .npy")
    return parser.parse_args()


def settings(folder: Path) -> dict[str, Any]:
    """What ``export.json`` says: ``sampling``, ``class_names`` and more."""
    return json.loads((folder / "export.json").read_text(encoding="utf-8"))


def null(folder: Path, count: int) -> Arrays:
    """The null condition of ``count`` examples."""
    with np.load(folder / "null.npz") as file:
        return {name: np.repeat(one, count, axis=0) for name, one in file.items()}


def condition(folder: Path, options: argparse.Namespace) -> Arrays:
    """The condition of ``--count`` examples; what no option says is null, classes go in turn."""
    found = null(folder, options.count)
    for option, name in (("class", "labels"), ("prompt", "text"), ("given", "given")):
        if getattr(options, name) is not None and name not in found:
            raise SystemExit(f"--{option}: the model takes {', '.join(found) or 'no condition'}")
    if "labels" in found:
        classes, known = int(found["labels"][0]), settings(folder)["class_names"]
        labels = [_class(one, known, classes) for one in options.labels or range(classes)]
        found["labels"] = np.resize(np.array(labels, np.int32), options.count)
    if options.text is not None:
        if found["text"].dtype != np.int32:
            raise SystemExit("--prompt: the model was trained with a T5; give --condition instead")
        from tokens import Tokens

        tokenizer = Tokens.from_pretrained(folder / "tokenizer")
        texts = [options.text[i % len(options.text)] for i in range(options.count)]
        found["text"], found["text_mask"] = tokenizer(texts, found["text"].shape[1])
    if options.given is not None:
        frames = np.load(options.given)[: found["given"].shape[1]]
        found["given"] = np.broadcast_to(frames, found["given"].shape)
        found["there"] = np.ones(options.count, bool)
    if options.condition is not None:
        with np.load(options.condition) as file:
            found |= dict(file)
    return found


def _class(label: str | int, known: list[str], classes: int) -> int:
    if label in known:
        return known.index(str(label))
    if str(label).isdigit() and int(label) < classes:
        return int(label)
    raise SystemExit(f"--class: found {label!r}; expected 0 to {classes - 1}, or a class name")


def save(path: Path, x: np.ndarray, condition: Arrays) -> None:
    """Write images [n, h, w, c] or clips [n, f, h, w, c] of values in [-1, 1] as bytes.

    The given frames of clips come first. A PNG file has the images side by side, or a row for each
    clip.
    """
    images = np.clip(np.rint(127.5 * x + 127.5), 0, 255).astype(np.uint8)
    if "given" in condition and condition["there"].all():
        images = np.concatenate([condition["given"], images], axis=1)
    if path.suffix == ".npy":
        np.save(path, images)
    else:
        rows = images if images.ndim == 5 else images[None]
        path.write_bytes(_png(np.concatenate([np.concatenate(list(row), axis=1) for row in rows])))
    print(path)


def _png(image: np.ndarray) -> bytes:
    """An image [h, w, 1 or 3] in bytes as a PNG file."""
    height, width, channels = image.shape
    lines = np.pad(image.reshape(height, -1), ((0, 0), (1, 0)))  # each begins with its filter, none
    kind = {1: 0, 3: 2}[channels]
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0),
        b"IDAT": zlib.compress(lines.tobytes()),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts.items()
    )
