"""The columns of ``reports/evaluate/samplers.csv``: ``evaluate`` writes them, the page reads them.

This module imports nothing heavy, so that the page can use it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass

STUDENTS = "students"
"""The series of distilled models."""
BASELINE = "train_images"
"""The last row of the table: real training images, measured as samples are."""
COPY, OTHERS = "copy_last", "other_clips"
"""Baselines of models with given frames: the last one repeated, and real clips of other videos."""
TITLES = {
    BASELINE: "real training images",
    COPY: "copy of the last given frame",
    OTHERS: "real clips of other videos",
}
"""The baselines' titles, of images."""
FAR = 10.0
"""Multiple of the real-data baseline's ``fd_eval`` above which a sampler is warned of.

In all measurements of ``benchmarks/results/extractor.json``, uniformly grey, black and noise images
lie above it (13 times and more), and so do strongly blurred images (20 times and more). Slightly
blurred photographs and drawings lie at about 3, samples of the embedded default between 0.9 and
1.5.
"""


@dataclass(frozen=True)
class SamplerRow:
    """One row of the table; NaN, an empty field of the file, where a column does not apply.

    Attributes:
        sampler: its name in files and metrics.
        title: its name on the page.
        steps: of the sampler.
        guidance_weight: 0 without guidance.
        logsnr_min: lower end of the guidance interval; does not apply to the whole range.
        logsnr_max: its upper end.
        samples: how many images were measured.
        fd_eval: Fréchet distance to the eval split, of the data set's own extractor's features.
        fd_train: the same to the train split.
        agreement: share of images in which the data set's classifier sees the class that was asked
            for; does not apply to data without classes.
        nfe: network evaluations an image.
        gflops_forward: GFLOPs of one of them.
        gflops_image: GFLOPs an image.
        fd_eval_ratio: ``fd_eval`` over that of the real-data baseline, of as many images.
        series: what samplers have in common that differ in their steps only; empty for one of its
            own.
        precision: share of samples among real images, of the data set's own extractor's features.
        recall: share of real images among samples: low where modes are missing.
        coverage: share of real images that have a sample in their neighbourhood.
    """

    sampler: str
    title: str
    steps: float
    guidance_weight: float
    logsnr_min: float
    logsnr_max: float
    samples: float
    fd_eval: float
    fd_train: float
    agreement: float
    nfe: float
    gflops_forward: float
    gflops_image: float
    fd_eval_ratio: float = math.nan
    series: str = ""
    precision: float = math.nan
    recall: float = math.nan
    coverage: float = math.nan


MODES = ("precision", "recall", "coverage")
"""The columns that show lost modes, which class agreement does not."""
TEXTS = ("sampler", "title", "series")
NUMBERS = tuple(one.name for one in dataclasses.fields(SamplerRow) if one.name not in TEXTS)


TRAJECTORY = "trajectory.csv"
"""Beside it: the distance of each snapshot of the training to the eval split."""
PLAIN, GUIDED = "no_guidance", "best_guidance"
"""Its curves: without guidance, and with the best guidance of the search."""
TRAJECTORY_TEXTS = ("curve", "metric")
TRAJECTORY_NUMBERS = ("step", "samples", "value", "low", "high")


def title(baseline: str, *, clips: bool) -> str:
    """The title of a baseline's row."""
    return "real training clips" if clips and baseline == BASELINE else TITLES[baseline]


def warning(samplers: Iterable[SamplerRow], baseline: SamplerRow) -> str | None:
    """Which samplers are further than :data:`FAR` times the baseline; None if none is.

    Those of ``eval.samplers`` are not considered: with very few steps they are expected to be far.
    """
    own = [one for one in samplers if one.series in ("", STUDENTS)]
    far = [one for one in own if one.fd_eval > FAR * baseline.fd_eval]
    if not far:
        return None
    listed = ", ".join(f"{one.sampler} {one.fd_eval:.3g}" for one in far[:4])
    more = f" and {len(far) - 4} more" if len(far) > 4 else ""
    return (
        f"samples are further from real images than {FAR:g} times the real-data baseline: fd_eval "
        f"of {listed}{more}; of real images {baseline.fd_eval:.3g}. Look at the samples before you "
        "use them; a longer training (train.steps) usually helps"
    )
