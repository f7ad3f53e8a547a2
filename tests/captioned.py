"""Small projects whose images have captions, for tests of stages."""

import shutil

import numpy as np
from PIL import Image

from tests import tiny

COLOURS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200), "grey": (90, 90, 90)}
LEARNED = {"vocabulary": 280, "channels": 8, "depth": 1, "heads": 2}
NET = {
    # One block: every process traces and compiles anew.
    "model": tiny.ONE_BLOCK,
    # Biases before a norm of single channels have no gradient but rounding, and Adam would make
    # steps of full size of it.
    "train": {"optimiser": tiny.SECTIONS["train"]["optimiser"] | {"adam_eps": 1e-5}},
}


def text(**changes):
    """The section ``text`` of the smallest learned encoder."""
    return {"max_tokens": 12, "encoder": {"learned": LEARNED}} | changes


def t5(folder, cache=True):
    """The section ``text`` of a T5 in a folder."""
    encoder = {"name": "t5", "t5": {"path": str(folder), "dtype": "float32"}}
    return {"max_tokens": 12, "cache": cache, "encoder": encoder}


def write(folder, count=60, **sections):
    """Write images with two captions each, and ``params.yaml``, into ``folder``."""
    draws, names = np.random.default_rng(0), [*COLOURS]
    images = folder / "images"
    images.mkdir(exist_ok=True)
    for number in range(count):
        colour = names[number % len(names)]
        noise = draws.integers(0, 50, (8, 8, 3)) + np.array(COLOURS[colour])
        Image.fromarray(noise.astype(np.uint8)).save(images / f"{number}.png")
        captions = f"a {colour} square, number {number}\na square that is {colour}\n"
        (images / f"{number}.txt").write_text(captions, encoding="utf-8")
    source = tiny.source("folder", path=str(images), image_size=8, channels=3, caption_lines=True)
    tiny.write(folder, **{"data": source, "text": text()} | NET | sections)
    shutil.copy(tiny.ROOT / "dvc.yaml", folder)
    return folder
