"""How good generated images are, in a few numbers: what a search needs to know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quality:
    """Scores of a number of generated images.

    Attributes:
        samples: how many.
        fd_train: Fréchet distance to the train split's images.
        fd_eval: the same to the eval split's.
        agreement: share of images that the data set's own classifier assigns to the class they
            were sampled for; None for images without a class.
        distance: what the distances are called: ``fd`` by the data set's own extractor, ``fid`` by
            Inception, ``fd_dinov2`` by DINOv2.
    """

    samples: int
    fd_train: float
    fd_eval: float
    agreement: float | None
    distance: str
