"""analysis: the low-bit view of the loss, computed without training, from the images' shape."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("analysis")

from pathlib import Path

import numpy as np

from sid2core import atomic, config
from sid2core.config import build
from sid2core.evaluation import low_bit_analysis
from sid2core.pipeline import artifact, stage

REPORTS = Path("reports/analysis")


def main(params: config.Params) -> None:
    """Write Figures 11 and 12 of the supplement, the weighting in use, and the gaps."""
    settings, loss = params.analysis, params.diffusion.loss
    # All that is asked of the data: the schedule and EDM's weighting depend on the height.
    shape = artifact.load("prepare").metadata["shape"]
    size = shape[-3]
    mixture = dict(zip(settings.mixture_bits, settings.mixture_proportions, strict=True))
    logsnr = np.linspace(settings.logsnr_min, settings.logsnr_max, settings.points)
    errors = low_bit_analysis.eps_errors(
        [*settings.bits, *mixture, low_bit_analysis.FULL_BITS], logsnr
    )
    figure12 = low_bit_analysis.figure12(logsnr, errors, settings.sigmoid_bias, mixture)
    tables = {
        "figure11": low_bit_analysis.figure11(
            logsnr, {bits: errors[bits] for bits in settings.bits}
        ),
        "figure12": figure12,
        "weighting": low_bit_analysis.emphasis(
            build.noise_schedule(params.diffusion.schedule, size),
            build.training_loss(loss, tuple(shape)),
            build.settled(loss),  # a weight that moves is shown where it arrives
            size,
            settings.points,
        ),
    }
    for name, table in tables.items():
        # The integrals are right to 1e-6; digits far beyond would differ between machines.
        text = table.round(7).to_csv(index=False, float_format="%.7g")
        atomic.write_text(REPORTS / f"{name}.csv", text)
    rounded = {name: round(value, 5) for name, value in low_bit_analysis.gaps(figure12).items()}
    atomic.write_json(REPORTS / "metrics.json", rounded)


if __name__ == "__main__":
    stage.run("analysis", main)
