"""Inception features for FID, with the user's copy of the published weights.

The mode is how an image is resized and scaled; only distances of one mode compare:

=========  =================================  ================  ============================
mode       resize to 299                      pixel             protocol of
=========  =================================  ================  ============================
``tf1``    TensorFlow 1's bilinear            (x - 128) / 128   TTUR, ADM, torch-fidelity
``torch``  PyTorch's bilinear                 2 x / 255 - 1     pytorch-fid, most JAX ports
``clean``  Pillow's bicubic with antialias    (x - 128) / 128   clean-fid
=========  =================================  ================  ============================
``tf1`` is the mode of published ImageNet numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
from jax.sharding import NamedSharding
from numpy.typing import NDArray

from sid2core import atomic
from sid2core.config.evaluation import Inception as Settings
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import inception_network, pretrained, resize
from sid2core.metrics.networks.batching import Batching
from sid2core.metrics.networks.inception_network import CLASSES, FEATURES, SIZE
from sid2core.metrics.networks.pretrained import WEIGHTS, Pretrained
from sid2core.metrics.networks.protocol import LOGITS, POOL, SPATIAL, Files
from sid2core.metrics.networks.weights import Published

NAME = "inception"
PUBLISHED = Published(
    name="pt_inception-2015-12-05-6726825d.pth",
    size=95_628_359,
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    publisher="the releases of mseitzer/pytorch-fid (tag fid_weights)",
    url=(
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth"
    ),
)
OPTIONS = "extractor.json"
"""The file in an artifact that keeps the mode."""
BATCH_SIZE = 32
"""Images that a device takes at once."""


@dataclass(frozen=True)
class Mode:
    """How raw images become the network's input: resized, then (x - middle) / scale."""

    middle: float
    scale: float
    words: str


MODES = {
    "tf1": Mode(128.0, 128.0, "299, TF1 bilinear, no antialias; (x - 128) / 128"),
    "torch": Mode(127.5, 127.5, "299, half-pixel bilinear, no antialias; 2 x / 255 - 1"),
    "clean": Mode(128.0, 128.0, "299, Pillow bicubic, antialias; (x - 128) / 128"),
}


def load(
    path: Path | str,
    verify: bool = True,
    *,
    mode: str = "tf1",
    batching: Batching | None = None,
) -> Inception:
    """Read the published ``.pth``, or a safetensors file made from it.

    Args:
        path: the file.
        verify: whether it must be the published one, by size and SHA-256; otherwise other weights
            of the same shapes are accepted.
        mode: a key of :data:`MODES`.
        batching: the size and the placement of batches; by default 32 images on one device.

    Raises:
        MetricsError: the file is missing, damaged, or not the expected one; or the mode is unknown.
    """
    tensors, origin = pretrained.obtain(Path(path), (PUBLISHED,), verify)
    what = f"{path} is not FID's Inception"
    if tensors.get("fc.weight", np.empty(0)).shape == (1000, FEATURES):
        what = (
            f"{path} is torchvision's Inception, another network with other pools and classes: "
            f"{PUBLISHED.needed(Path(path))}"
        )
    fitted = pretrained.fitted(tensors, inception_network.tensor_shapes(), what, exact=True)
    return Inception(fitted, origin, batching or Batching(BATCH_SIZE), mode)


@dataclass(frozen=True, eq=False)
class Inception(Pretrained):
    """Inception; ``tensors`` are the published file's 472, by PyTorch's names.

    Features are ``pool`` [n, 2048] (pool3), ``logits`` [n, 1008] (of the last layer without bias,
    which the inception score uses) and ``spatial`` [n, 2023] (of sFID).
    """

    name: ClassVar[str] = NAME
    distance: ClassVar[str] = "fid"
    kernel: ClassVar[str] = "kid"
    widths: ClassVar[Mapping[str, int]] = {POOL: FEATURES, LOGITS: CLASSES, SPATIAL: 2023}

    mode: str = "tf1"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            msg = f"unknown mode {self.mode!r}; expected one of {', '.join(MODES)}"
            raise MetricsError(msg)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """JSON values that must agree before statistics of its features are compared."""
        return {**super().provenance, "mode": self.mode, "resize": MODES[self.mode].words}

    @classmethod
    def from_settings(cls, settings: Settings, sharding: NamedSharding | None = None) -> Inception:
        """The extractor of ``eval.extractors.inception``, its weights verified."""
        batching = Batching(BATCH_SIZE, sharding)
        return load(settings.weights or "", mode=settings.mode, batching=batching)

    @classmethod
    def load(cls, file: Files, sharding: NamedSharding | None = None) -> Inception:
        """The extractor that :meth:`save` wrote."""
        mode = json.loads(file(OPTIONS).read_text(encoding="utf-8"))["mode"]
        return load(file(WEIGHTS), False, mode=mode, batching=Batching(BATCH_SIZE, sharding))

    def save(self, file: Files) -> None:
        """Write the weights as safetensors, and the mode."""
        super().save(file)
        atomic.write_json(file(OPTIONS), {"mode": self.mode})

    def _tree(self) -> Any:
        return inception_network.folded(self.tensors)

    def _prepare(self, images: NDArray[Any]) -> NDArray[Any]:
        # Pillow works on the host; the two linear resizes work on the devices.
        return resize.resize(images, SIZE, self.mode) if self.mode == "clean" else images

    def _apply(self, weights: Any, images: jax.Array) -> Mapping[str, jax.Array]:
        mode = MODES[self.mode]
        x = images if self.mode == "clean" else resize.resize(images, SIZE, self.mode)
        outputs = _network(weights, _centred(x, mode.middle, mode.scale))
        return {
            POOL: outputs["pool3"],
            LOGITS: outputs["logits_unbiased"],
            SPATIAL: outputs["sfid"],
        }


_network = jax.jit(inception_network.apply)
"""One compilation serves all extractors of one batch size and sharding, and all modes."""


@jax.jit
def _centred(x: jax.Array, middle: jax.Array, scale: jax.Array) -> jax.Array:
    return (x - middle) / scale
