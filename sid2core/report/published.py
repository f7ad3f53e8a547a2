"""Published figures that stand beside a run's own; one multiply-add is one FLOP in all of them.

The only place of the page that holds numbers of the paper; each block names its source.
"""

from __future__ import annotations

from dataclasses import dataclass

SUPPLEMENT = "SiD2 supplement, Table 5"
QUOTED = "the paper’s main text (arXiv 2410.19324), as independent public sources quote it"


@dataclass(frozen=True)
class Printed:
    """One row of Table 5, every number with its printed digits, empty where a dash is printed."""

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
    """One of SiD2's own models, guided on an interval of log-SNR, 512 steps."""

    model: str
    resolution: int
    gflops: float
    """Of a forward pass; of 512 and 256 pixels alike, as the patch grows with the image."""
    fid: float


@dataclass(frozen=True)
class Forward:
    """A point of Figure 16: a forward pass on ImageNet 512 and the FID it reaches."""

    method: str
    gflops: float
    fid: float
    pixels: bool
    """Whether it works on pixels and not on latents."""


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
"""Those of Table 5 that work in an autoencoder's latents (C.4 compares with such, unnamed)."""


def figure_16() -> tuple[Forward, ...]:
    """The points of Figure 16 that are known in numbers, from the two tables above."""
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
