"""How often a classifier recognises the digit in a clip's last frame: samples against real clips.

    sid2 preset moving-digits && dvc repro
    python -m benchmarks.moving_digits

The classifier is scikit-learn's support vector machine on the square around the ink's centre,
trained on the last frames of the train split, also shifted by a pixel. Digits of eval clips are in
none of those. Intervals are 95 % bootstrap intervals over clips.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import SVC

from benchmarks.common import RESULTS
from sid2core.data.load.dataset import Dataset
from sid2core.pipeline import artifact

DRAWN = Path("artifacts/evaluate")
REAL = "real clips"
_RESAMPLES = 2000
_INK = 0.15  # what is darker does not count towards the centre
_MARGIN = 2
_COPIES = 3  # of each training frame, all but one shifted


def main() -> None:
    """Print and write the accuracy for real clips and for each sampler."""
    prepared = artifact.load("prepare")
    train, held_out = (Dataset.open(prepared, split) for split in ("train", "eval"))
    classifier = _classifier(train)
    hits = {REAL: classifier.predict(_squares(_all(held_out))) == held_out.labels}
    for file in sorted(DRAWN.glob("*.npz")):
        stored = np.load(file)
        if {"images", "labels"} <= set(stored.files):
            hits[file.stem] = classifier.predict(_squares(stored["images"])) == stored["labels"]
    random, rows = np.random.default_rng(0), {}
    real = _means(hits[REAL], random)
    for name, one in hits.items():
        low, high = np.quantile(_means(one, random) / real, [0.025, 0.975])
        rows[name] = {
            "clips": len(one),
            "recognised": round(float(one.mean()), 4),
            "share_of_real": round(float(one.mean() / hits[REAL].mean()), 4),
            "low": round(float(low), 4),
            "high": round(float(high), 4),
        }
        print(name, rows[name])
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"command": "python -m benchmarks.moving_digits", "rows": rows}, indent=2)
    (RESULTS / "moving_digits.json").write_text(text + "\n", encoding="utf-8")


def _classifier(train: Dataset) -> SVC:
    random, clips = np.random.default_rng(0), _all(train)
    shifts = [np.zeros((2, len(clips)), np.int64)]
    shifts += [random.integers(-1, 2, (2, len(clips))) for _ in range(_COPIES - 1)]
    squares = np.concatenate([_squares(clips, shift) for shift in shifts])
    return SVC(C=10.0, gamma="scale").fit(squares, np.tile(train.labels, _COPIES))


def _all(dataset: Dataset) -> NDArray[np.uint8]:
    return dataset.take(np.arange(len(dataset)))


def _means(hits: NDArray[np.bool_], random: np.random.Generator) -> NDArray[np.float64]:
    """Means of resamples."""
    return hits[random.integers(0, len(hits), (_RESAMPLES, len(hits)))].mean(axis=1)


def _squares(
    clips: NDArray[np.uint8], shift: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Of the last frames of [n, f, h, w, 1], the square of half their side around the ink's centre.

    Args:
        clips: of one channel.
        shift: rows and columns [2, n] to move the squares by.
    """
    frames = clips[:, -1, :, :, 0].astype(np.float64) / 255
    frames *= frames > _INK
    side = min(frames.shape[1:]) // 2
    total = np.maximum(frames.sum(axis=(1, 2)), 1e-9)
    corners = []
    for axis in (1, 2):
        places = np.arange(frames.shape[axis])
        centre = (frames.sum(axis=3 - axis) * places).sum(axis=1) / total
        first = np.round(centre - (side - 1) / 2).astype(np.int64)
        first += 0 if shift is None else shift[axis - 1]
        corners.append(np.clip(first, -_MARGIN, frames.shape[axis] - side + _MARGIN) + _MARGIN)
    padded = np.pad(frames, ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
    return windows[np.arange(len(frames)), corners[0], corners[1]].reshape(len(frames), -1)


if __name__ == "__main__":
    main()
