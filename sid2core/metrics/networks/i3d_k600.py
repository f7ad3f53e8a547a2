"""I3D as the FVD of Kinetics-600 frame prediction uses it (MAGVIT, arXiv 2212.05199, appendix B.3).

Clips of 16 frames, all of which are scored, the given ones among them. Each frame is cropped to its
central square and resized to 64×64 (bilinear with half-pixel centres, as TensorFlow 2, no
antialias, not rounded), whatever size it was made at. What follows is I3D's own input. No source
states how the 64×64 frames were resized, so the provenance names it.

The real set has 6 clips of each video: 2 windows in time × 3 crops, spread uniformly
(:func:`real_clips`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np
from jax.sharding import NamedSharding
from numpy.typing import NDArray

from sid2core.config.evaluation import K600Weights, Weights
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import i3d
from sid2core.metrics.networks.batching import Batching
from sid2core.metrics.networks.i3d import BATCH_SIZE, I3D, Folded
from sid2core.metrics.networks.pretrained import WEIGHTS
from sid2core.metrics.networks.protocol import POOL, Files
from sid2core.metrics.networks.resize import linear
from sid2core.typing import Array

NAME = "i3d_k600"
FRAMES, SIDE = K600Weights.least_frames, 64
WINDOWS, CROPS = 2, 3
"""Windows in time and crops in space of each real video."""
CLIPS_OF_A_VIDEO = f"{WINDOWS} windows x {CROPS} crops of a video, uniform, different ones once"
"""The real set, for the provenance."""


@dataclass(frozen=True, eq=False)
class I3DK600(I3D):
    """I3D of clips that are judged at 64×64."""

    name: ClassVar[str] = NAME
    distance: ClassVar[str] = "fvd_k600"
    kernel: ClassVar[str] = "kvd_k600"

    @property
    def provenance(self) -> Mapping[str, Any]:
        """JSON values that must agree."""
        return {
            **super().provenance,
            "resize": (
                "central square to 64, bilinear with half-pixel centres, no antialias, not "
                "rounded; 224, TF1 bilinear, no antialias; 2 x / 255 - 1"
            ),
            "frames_scored": f"all {FRAMES}, given ones among them",
        }

    def check(self, shape: tuple[int, ...]) -> None:
        """Check that it accepts clips of this shape: [f, h, w, c] with 16 frames or more.

        Of longer clips the data set has, windows of 16 frames are measured.

        Raises:
            MetricsError: it does not, or there are too few frames.
        """
        super().check(shape)
        if shape[0] < FRAMES:
            msg = (
                f"clips have {shape[0]} frames; {self.distance} is defined for {FRAMES}: set the "
                "source's frames, or measure fvd (eval.extractors.i3d) instead"
            )
            raise MetricsError(msg)

    def features(self, images: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """The features of raw clips [n, 16, h, w, c].

        Raises:
            MetricsError: other than uint8, or of another shape.
        """
        if images.ndim == 5 and images.shape[1] > FRAMES:
            msg = f"clips have {images.shape[1]} frames; {self.distance} is defined for {FRAMES}"
            raise MetricsError(f"{msg}: measure windows of them")
        return super().features(images)

    @classmethod
    def from_settings(cls, settings: Weights, sharding: NamedSharding | None = None) -> I3DK600:
        """The extractor of ``eval.extractors.i3d_k600``, its weights verified."""
        return cls.of(i3d.load(settings.weights or "", batching=Batching(BATCH_SIZE, sharding)))

    @classmethod
    def load(cls, file: Files, sharding: NamedSharding | None = None) -> I3DK600:
        """The extractor that :meth:`save` wrote."""
        return cls.of(i3d.load(file(WEIGHTS), False, batching=Batching(BATCH_SIZE, sharding)))

    @classmethod
    def of(cls, network: I3D) -> I3DK600:
        """The same network, applied by this protocol."""
        return cls(network.tensors, network.origin, network.batching)

    def _apply(self, weights: Any, images: jax.Array) -> Mapping[str, jax.Array]:
        return {POOL: _network(weights, images)}


@jax.jit
def _network(folded: Folded, videos: Array) -> Array:
    return i3d.of_frames(folded, judged(videos), len(videos))


def judged(videos: Array) -> Array:
    """The frames that are judged, [n f, 64, 64, 3], of clips [n, f, h, w, c] from 0 to 255."""
    _, _, height, width, channels = videos.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = videos[:, :, top : top + side, left : left + side]
    return linear(square.reshape(-1, side, side, channels), SIDE, "torch")


def real_clips(videos: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """All real clips of videos [n, F, h, w, c], as [n m, 16, s, s, c] with s = min(h, w).

    2 windows from the first frame to the last × 3 crops from one end of the longer side to the
    other; m is 6. Where they coincide, because there are no more than 16 frames or the frames are
    square, each stands once.
    """
    frames, height, width = videos.shape[1:4]
    side = min(height, width)
    starts, offsets = _spread(frames - FRAMES, WINDOWS), _spread(max(height, width) - side, CROPS)
    cut = [
        videos[:, start : start + FRAMES, offset * (height > side) :, offset * (width > side) :]
        for start in starts
        for offset in offsets
    ]
    return np.stack([one[:, :, :side, :side] for one in cut], axis=1).reshape(
        -1, FRAMES, side, side, videos.shape[-1]
    )


def _spread(room: int, count: int) -> list[int]:
    """Different whole numbers from 0 to ``room``, uniform, ``count`` of them at most."""
    return sorted({round(number) for number in np.linspace(0, room, count)})
