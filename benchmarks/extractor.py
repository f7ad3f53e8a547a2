"""Whether the data set's own extractor orders images without labels as eyes do.

    python -m benchmarks.extractor [--seeds 3] [--steps 200]

Three data sets of one class: the built-in shapes, the digits, and crops of scikit-learn's two
photographs (textures, sky, petals). For each seed, the split is drawn and an extractor trained.
Then sets of images are compared with the train split by the Fréchet distance, each as a multiple
of that of the held-out images:

- the held-out images with a Gaussian blur of 0.5 (slight) and 2 pixels (strong), normal noise of
  8 of 255, or 20 of them repeated;
- uniformly grey images, black ones, and uniform noise.

A second table measures digits with few images per class, by a classifier and without labels: it is
what ``FEWEST_PER_CLASS`` in ``sid2core/metrics/networks/classifier_training.py`` rests on.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats
from sklearn.datasets import load_digits, load_sample_images

from sid2core import config
from sid2core.data.load.dataset import Dataset
from sid2core.data.load.shards import Layout
from sid2core.data.sources import scenes
from sid2core.metrics.networks import classifier_training
from sid2core.metrics.networks.own import OwnExtractor
from sid2core.metrics.networks.protocol import POOL
from sid2core.metrics.statistics import FeatureStatistics, Moments, distance

RESULT = Path(__file__).parent / "results" / "extractor.json"
COMMAND = "python -m benchmarks.extractor"
COUNT, HELD_OUT, SIZE = 1800, 400, 16
PER_CLASS = (5, 20)
REQUIRED = {"strong blur": ("slight blur",), "slight blur": ("held out",)}
"""Which sets must be further than which."""
EMPTY = ("grey", "black", "noise")
"""Sets that must be ten times as far as held-out images."""

Images = NDArray[np.uint8]


def digits(seed: int) -> tuple[Images, NDArray[np.int32]]:
    """Handwritten digits [n, 8, 8, 1] in random order, and their classes."""
    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.images))
    images = np.rint(data.images * 255 / 16).astype(np.uint8)[..., None]
    return images[order], data.target[order].astype(np.int32)


def shapes(seed: int) -> tuple[Images, NDArray[np.int32]]:
    """Drawn shapes [n, 16, 16, 3], all of one class."""
    order = np.random.default_rng(seed).permutation(COUNT)
    images = np.stack([scenes.scene(0, int(number)).draw(SIZE, SIZE) for number in order])
    return images, np.zeros(COUNT, np.int32)


def textures(seed: int) -> tuple[Images, NDArray[np.int32]]:
    """Random crops of two photographs at a third of their size, [n, 16, 16, 3]."""
    random, crops, side = np.random.default_rng(seed), [], 3 * SIZE
    for index in range(COUNT):
        picture = load_sample_images().images[index % 2]
        y, x = (random.integers(0, length - side) for length in picture.shape[:2])
        crop = picture[y : y + side, x : x + side].reshape(SIZE, 3, SIZE, 3, 3)
        crops.append(crop.mean(axis=(1, 3)))
    return np.rint(crops).astype(np.uint8), np.zeros(COUNT, np.int32)


DATA: Mapping[str, Callable[[int], tuple[Images, NDArray[np.int32]]]] = {
    "digits": digits,
    "shapes": shapes,
    "textures": textures,
}


class _InMemory:
    """All images as one row group."""

    def __init__(self, images: Images, labels: NDArray[np.int32]) -> None:
        names = tuple(map(str, range(labels.max() + 1)))
        self.layout, self.labels = Layout(images.shape[1:], names, "train"), labels
        self.sizes, self._images = np.array([len(images)]), images

    def images(self, number: int) -> Images:
        return self._images

    def column(self, name: str) -> list[str]:
        return [str(row) for row in range(len(self.labels))]


def blurred(images: Images, deviation: float) -> Images:
    """Each image with a Gaussian blur, in pixels."""
    widths = (0, deviation, deviation, 0)
    return np.rint(ndimage.gaussian_filter(images.astype(float), widths, mode="nearest")).astype(
        np.uint8
    )


def variants(images: Images, seed: int) -> dict[str, Images]:
    """The sets that are compared with the train split."""
    random = np.random.default_rng(seed)
    noisy = images + random.normal(0, 8, images.shape)
    return {
        "held out": images,
        "slight blur": blurred(images, 0.5),
        "strong blur": blurred(images, 2.0),
        "slight noise": np.clip(np.rint(noisy), 0, 255).astype(np.uint8),
        "20 repeated": images[np.arange(len(images)) % 20],
        "grey": np.full_like(images, 128),
        "black": np.zeros_like(images),
        "noise": random.integers(0, 256, images.shape).astype(np.uint8),
    }


def distances(
    extractor: OwnExtractor, train: Images, held_out: Images, seed: int
) -> dict[str, float]:
    """The Fréchet distance of each set to the train split."""

    def moments(images: Images) -> Moments:
        return FeatureStatistics.of(extractor.features(images)[POOL]).moments({})

    reference = moments(train)
    return {
        name: distance(moments(images), reference)
        for name, images in variants(held_out, seed).items()
    }


def failures(found: Mapping[str, float]) -> list[str]:
    """Which requirements do not hold."""
    wrong = [
        f"{name} not further than {other}"
        for name, others in REQUIRED.items()
        for other in others
        if not found[name] > found[other]
    ]
    far = 10 * found["held out"]
    return wrong + [f"{name} not ten times as far" for name in EMPTY if not found[name] >= far]


def measure(
    images: Images, labels: NDArray[np.int32], train: int, seed: int, *, steps: int, labelled: bool
) -> dict[str, float]:
    """Train on the first ``train`` images, compare the last :data:`HELD_OUT`."""
    settings = config.read().reference.model_copy(update={"steps": steps})
    dataset = Dataset(_InMemory(images[:train], labels[:train]), cache_mib=256.0)
    extractor, _ = classifier_training.train(dataset, settings, seed, labelled=labelled)
    return distances(extractor, images[:train], images[-HELD_OUT:], seed)


def summary(found: Sequence[Mapping[str, float]]) -> dict[str, object]:
    """Multiples of the held-out distance: the geometric mean and its 90 % interval over the seeds.

    The interval is Student's, of the logarithms.
    """
    rows: dict[str, object] = {}
    for name in found[0]:
        logs = [math.log(one[name] / one["held out"]) for one in found]
        mean, half = statistics.fmean(logs), math.nan
        if len(logs) > 1:
            error = statistics.stdev(logs) / math.sqrt(len(logs))
            half = float(stats.t.ppf(0.95, len(logs) - 1)) * error
        rows[name] = [float(f"{math.exp(x):.3g}") for x in (mean, mean - half, mean + half)]
    wrong = sorted({text for one in found for text in failures(one)})
    return {
        "multiples": rows,
        "failures": wrong,
        "distances": [{name: round(value, 6) for name, value in one.items()} for one in found],
    }


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    seeds, results = range(options.seeds), {}
    for name, make in DATA.items():
        found = []
        for seed in seeds:
            images, _ = make(seed)
            labels = np.zeros(len(images), np.int32)
            train = len(images) - HELD_OUT
            found.append(measure(images, labels, train, seed, steps=options.steps, labelled=False))
        results[name] = _shown(name, found)
    for count in PER_CLASS:
        for labelled in (True, False):
            found = []
            for seed in seeds:
                images, labels = digits(seed)
                found.append(
                    measure(
                        images, labels, 10 * count, seed, steps=options.steps, labelled=labelled
                    )
                )
            name = f"digits, {count} per class, {'classifier' if labelled else 'without labels'}"
            results[name] = _shown(name, found)
    value = {"command": COMMAND, "seeds": options.seeds, "steps": options.steps, "results": results}
    RESULT.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _shown(name: str, found: Sequence[Mapping[str, float]]) -> dict[str, object]:
    result = summary(found)
    print(name, json.dumps(result), flush=True)
    return result


if __name__ == "__main__":
    main()
