"""Published numbers shown beside those of a run; a multiply-add is one FLOP in all of them.

All numbers from the paper on the page are here; each block names its source.
"""

from __future__ import annotations

from dataclasses import dataclass

SUPPLEMENT = "SiD2 supplement, Table 5"
QUOTED = "the paper’s main text (arXiv 2410.19324), as independent public sources quote it"


@dataclass(frozen=True)
class Printed:
    """One row of Table 5, every number with its printed digits; empty for a dash."""

    method: str
    nfe: str
    gflops: str
    """Of a forward pass (inference cost)."""
    tflops: str
    """Of an image (sampling cost)."""
    seconds: str
    fid: str


@dataclass(frozen=True)
class Guided:
    """One of SiD2's models with guidance on an interval of log-SNR, 512 steps."""

    model: str
    resolution: int
    gflops: float
    """Of a forward pass; equal for 512 and 256 pixels, because the patch grows with the image."""
    fid: float


@dataclass(frozen=True)
class Forward:
    """A point of Figure 16: the cost of a forward pass on ImageNet 512, and the FID."""

    method: str
    gflops: float
    fid: float
    pixels: bool
    """Whether it is a pixel-space model, not a latent one."""


TABLE_5 = (
    Printed("StyleGAN-XL", "1", "", "", "0.10", "2.40"),
    Printed("EDM2-S", "63", "102", "42.5", "", "1.68"),
    Printed("EDM2-XXL", "63", "552", "61.6", "", "1.40"),
    Printed("DiT-XL/2", "250", "525", "262.5", "", "2.40"),
    Printed("Pagoda", "1", "", "", "0.05", "1.80"),
    Printed("SiD2 16-step distilled", "16", "653", "10.4", "0.29", "1.50"),
)
"""Source: ``SUPPLEMENT``, in its order, on ImageNet 512; without its citations and "(ours)"."""

GUIDED_NFE = "512 × 2"
GUIDED = (
    Guided("small", 512, 137.4, 2.19),
    Guided("flop heavy", 512, 652.8, 1.48),
    Guided("small", 256, 137.4, 1.73),
    Guided("flop heavy", 256, 652.8, 1.38),
)
"""FID: ``QUOTED``. GFLOPs: the supplement's formulas (B.3) on the quoted network."""

_LATENT = frozenset({"EDM2-S", "EDM2-XXL", "DiT-XL/2"})
"""The latent models of Table 5 (C.4 compares with latent models without naming them)."""


def figure_16() -> tuple[Forward, ...]:
    """The points of Figure 16 whose numbers are known, from the two tables above."""
    printed = [
        Forward(row.method, float(row.gflops), float(row.fid), row.method not in _LATENT)
        for row in TABLE_5
        if row.gflops
    ]
    guided = [
        Forward(f"SiD2 {row.model}", row.gflops, row.fid, True)
        for row in GUIDED
        if row.resolution == 512
    ]
    return (*guided, *printed)
