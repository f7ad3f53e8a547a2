"""FID's Inception features of raw images, from the user's copy of the published weights.

A mode says how an image comes to the network, and so which published numbers compare:

=========  =================================  ================  ============================
mode       resize to 299                      pixel             protocol of
=========  =================================  ================  ============================
``tf1``    TensorFlow 1's bilinear            (x - 128) / 128   TTUR, ADM, torch-fidelity
``torch``  PyTorch's bilinear                 2 x / 255 - 1     pytorch-fid, most JAX ports
``clean``  Pillow's bicubic with antialias    (x - 128) / 128   clean-fid
=========  =================================  ================  ============================
``tf1`` is the protocol of published ImageNet numbers.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from numpy.typing import NDArray

from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import inception_network, resize, weights
from sid2core.metrics.networks.inception_network import CLASSES, FEATURES, SIZE
from sid2core.metrics.networks.weights import Published, Tensors

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
WIDTHS = {"pool3": FEATURES, "logits": CLASSES, "logits_unbiased": CLASSES, "sfid": 2023}
"""What is extracted, and how many numbers each is."""


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
    batch_size: int = 32,
    sharding: NamedSharding | None = None,
) -> Inception:
    """Read the published ``.pth``, or the safetensors that :meth:`Inception.save` made from it.

    Args:
        path: the file.
        verify: whether it must be the published one, by size and SHA-256; otherwise other weights
            of the same shapes will do.
        batch_size: as in :class:`Inception`.
        sharding: as in :class:`Inception`.

    Raises:
        MetricsError: the file is missing, another one, damaged, or of another network.
    """
    path = Path(path)
    tensors = weights.obtain(path, PUBLISHED, verify=verify)
    return Inception(_fitted(tensors, path), weights.origin(path), batch_size, sharding)


@dataclass(frozen=True, eq=False)
class Inception:
    """The extractor.

    Attributes:
        tensors: the published file's 472 float tensors, by PyTorch's names.
        origin: the SHA-256 of the file that they were published in.
        batch_size: images a device call, however many are asked for; bounds memory.
        sharding: how this process's devices share a batch; without it one takes it whole.
    """

    tensors: Tensors
    origin: str
    batch_size: int = 32
    sharding: NamedSharding | None = None

    def __call__(
        self, images: NDArray[np.uint8], mode: str = "tf1"
    ) -> dict[str, NDArray[np.float32]]:
        """Features of raw images [n, h, w, c], which do not depend on ``batch_size``.

        Grey images are taken for colour ones of three equal channels.

        Returns:
            ``pool3`` [n, 2048], ``logits`` and ``logits_unbiased`` [n, 1008] (with and without the
            last layer's bias; the inception score uses the latter), ``sfid`` [n, 2023].

        Raises:
            MetricsError: other than uint8 images of 1 or 3 channels, an unknown mode, or a
                ``batch_size`` that the devices cannot share.
        """
        _known(mode)
        resize.check_images(images)
        count, size = len(images), self.batch_size
        parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
        batches = ((part, self._batch(images[part], mode)) for part in parts)
        found = {name: np.empty((count, width), np.float32) for name, width in WIDTHS.items()}
        # In pairs, so that the device has the next batch before this one's features are fetched.
        for (part, features), _ in pairwise(chain(batches, [(slice(0), {})])):
            for name, values in features.items():
                found[name][part] = np.asarray(values)[: part.stop - part.start]
        return found

    def _batch(self, images: NDArray[np.uint8], mode: str) -> dict[str, jax.Array]:
        """The features of at most ``batch_size`` images; black ones fill the batch."""
        padding = [(0, self.batch_size - len(images)), *[(0, 0)] * 3]
        if mode == "clean":  # resized on the host: pad what is left of the work
            x = self._placed(np.pad(resize.resize(images, SIZE, mode), padding))
        else:
            x = resize.resize(self._placed(np.pad(images, padding)), SIZE, mode)
        return _apply(self._weights, _centred(x, MODES[mode].middle, MODES[mode].scale))

    def _placed(self, batch: NDArray[Any]) -> jax.Array:
        try:
            return jax.device_put(batch, self.sharding)
        except ValueError as error:
            msg = (
                f"a batch of {self.batch_size} cannot be shared by the devices ({error}): "
                "make batch_size a multiple of their number"
            )
            raise MetricsError(msg) from None

    @functools.cached_property
    def _weights(self) -> Any:
        tree = inception_network.folded(self.tensors)
        if self.sharding is None:
            return jax.device_put(tree)
        return jax.device_put(tree, NamedSharding(self.sharding.mesh, PartitionSpec()))

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the tensors: the same of the ``.pth`` and of the safetensors made from it."""
        return weights.digest(self.tensors)

    def provenance(self, mode: str) -> dict[str, Any]:
        """What statistics of these features must agree in.

        Raises:
            MetricsError: an unknown mode.
        """
        _known(mode)
        return {
            "extractor": NAME,
            "extractor_digest": self.digest,
            "mode": mode,
            "resize": MODES[mode].words,
        }

    def save(self, path: Path | str) -> None:
        """Write safetensors that :func:`load` takes in place of the published file."""
        weights.write(Path(path), self.tensors, self.origin)


_apply = jax.jit(inception_network.apply)
"""One compilation serves all extractors of one batch size and sharding, and all modes."""


@jax.jit
def _centred(x: jax.Array, middle: float, scale: float) -> jax.Array:
    return (x - middle) / scale


def _known(mode: str) -> None:
    if mode not in MODES:
        msg = f"unknown mode {mode!r}; one of {', '.join(MODES)} is needed"
        raise MetricsError(msg)


def _fitted(tensors: Tensors, path: Path) -> Tensors:
    """The tensors as float32, if they are all of the network's and sound."""
    wanted = inception_network.tensor_shapes()
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != wanted:
        wrong = [name for name in found | wanted if found.get(name) != wanted.get(name)]
        hint = ""
        if found.get("fc.weight") == (1000, FEATURES):
            hint = (
                "; this is torchvision's Inception, another network, with other pools and classes:"
                f" {PUBLISHED.wanted(path)}"
            )
        shown = ", ".join(
            f"{name} ({found.get(name, 'missing')}, expected {wanted.get(name, 'none')})"
            for name in wrong[:3]
        )
        msg = (
            f"{path} is no file of FID's Inception: {len(wrong)} tensors differ from the network's "
            f"{len(wanted)}, first {shown}{hint}"
        )
        raise MetricsError(msg)
    unsound = [
        name
        for name, tensor in tensors.items()
        if not np.isfinite(tensor).all() or (name.endswith("running_var") and tensor.min() < 0)
    ]
    if unsound:
        msg = (
            f"{path} holds values that are not finite, or variances below zero, in "
            f"{', '.join(unsound[:3])}; take the published file"
        )
        raise MetricsError(msg)
    return {name: tensor.astype(np.float32, copy=False) for name, tensor in tensors.items()}
