"""The Inception network that FID is defined by: TensorFlow's of 2015-12-05, not torchvision's.

A pure function of weights and images. Names are those of the PyTorch port (pytorch-fid). It
differs from torchvision's in that average pools leave the padding out of their count, Mixed_7c
pools by maximum, and there are 1008 classes and no auxiliary head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sid2core.typing import Array, Float, Image

SIZE = 299
"""Height and width of the images."""
FEATURES, CLASSES = 2048, 1008
SFID_CHANNELS = 7
EPS = 1e-3
"""Of the batch norms."""

Kernel = tuple[int, int, int, int]
"""Channels out, channels in, height, width."""


def _kind_a(c: int, pool: int) -> dict[str, Kernel]:
    return {
        "branch1x1": (64, c, 1, 1),
        "branch5x5_1": (48, c, 1, 1),
        "branch5x5_2": (64, 48, 5, 5),
        "branch3x3dbl_1": (64, c, 1, 1),
        "branch3x3dbl_2": (96, 64, 3, 3),
        "branch3x3dbl_3": (96, 96, 3, 3),
        "branch_pool": (pool, c, 1, 1),
    }


def _kind_b(c: int) -> dict[str, Kernel]:
    return {
        "branch3x3": (384, c, 3, 3),
        "branch3x3dbl_1": (64, c, 1, 1),
        "branch3x3dbl_2": (96, 64, 3, 3),
        "branch3x3dbl_3": (96, 96, 3, 3),
    }


def _kind_c(c: int, mid: int) -> dict[str, Kernel]:
    return {
        "branch1x1": (192, c, 1, 1),
        "branch7x7_1": (mid, c, 1, 1),
        "branch7x7_2": (mid, mid, 1, 7),
        "branch7x7_3": (192, mid, 7, 1),
        "branch7x7dbl_1": (mid, c, 1, 1),
        "branch7x7dbl_2": (mid, mid, 7, 1),
        "branch7x7dbl_3": (mid, mid, 1, 7),
        "branch7x7dbl_4": (mid, mid, 7, 1),
        "branch7x7dbl_5": (192, mid, 1, 7),
        "branch_pool": (192, c, 1, 1),
    }


def _kind_d(c: int) -> dict[str, Kernel]:
    return {
        "branch3x3_1": (192, c, 1, 1),
        "branch3x3_2": (320, 192, 3, 3),
        "branch7x7x3_1": (192, c, 1, 1),
        "branch7x7x3_2": (192, 192, 1, 7),
        "branch7x7x3_3": (192, 192, 7, 1),
        "branch7x7x3_4": (192, 192, 3, 3),
    }


def _kind_e(c: int) -> dict[str, Kernel]:
    return {
        "branch1x1": (320, c, 1, 1),
        "branch3x3_1": (384, c, 1, 1),
        "branch3x3_2a": (384, 384, 1, 3),
        "branch3x3_2b": (384, 384, 3, 1),
        "branch3x3dbl_1": (448, c, 1, 1),
        "branch3x3dbl_2": (384, 448, 3, 3),
        "branch3x3dbl_3a": (384, 384, 1, 3),
        "branch3x3dbl_3b": (384, 384, 3, 1),
        "branch_pool": (192, c, 1, 1),
    }


_Maps = Float[Array, "b _ _ _"]
"""Activations [b, h, w, c]; each convolution may change all but b."""


class _Units:
    """The convolutions of one block, by the rest of their names."""

    def __init__(self, weights: dict[str, Any], block: str) -> None:
        self.weights, self.block = weights, block

    def __call__(self, x: _Maps, *names: str, stride: int = 1, padding: str = "SAME") -> _Maps:
        """One after the other, the last with the given stride and padding."""
        for name in names:
            last = name == names[-1]
            x = lax.conv_general_dilated(
                x,
                self.weights[self.block + name]["kernel"],
                window_strides=(stride, stride) if last else (1, 1),
                padding=padding if last else "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                # An accelerator's shortened float32 would move the features by 5e-4.
                precision=lax.Precision.HIGHEST,
            )
            x = jax.nn.relu(x + self.weights[self.block + name]["bias"].reshape(1, 1, 1, -1))
        return x


def _stem(units: _Units, x: _Maps) -> _Maps:
    x = units(x, "Conv2d_1a_3x3", stride=2, padding="VALID")
    x = units(x, "Conv2d_2a_3x3", padding="VALID")
    x = _halved(units(x, "Conv2d_2b_3x3"))
    x = units(x, "Conv2d_3b_1x1")
    return _halved(units(x, "Conv2d_4a_3x3", padding="VALID"))


def _mixed_a(units: _Units, x: _Maps) -> _Maps:
    return _joined(
        units(x, "branch1x1"),
        units(x, "branch5x5_1", "branch5x5_2"),
        units(x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
        units(_mean_around(x), "branch_pool"),
    )


def _mixed_b(units: _Units, x: _Maps) -> _Maps:
    names = ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
    return _joined(
        units(x, "branch3x3", stride=2, padding="VALID"),
        units(x, *names, stride=2, padding="VALID"),
        _halved(x),
    )


def _mixed_c(units: _Units, x: _Maps) -> _Maps:
    return _joined(
        units(x, "branch1x1"),
        units(x, *(f"branch7x7_{index}" for index in range(1, 4))),
        units(x, *(f"branch7x7dbl_{index}" for index in range(1, 6))),
        units(_mean_around(x), "branch_pool"),
    )


def _mixed_d(units: _Units, x: _Maps) -> _Maps:
    names = (f"branch7x7x3_{index}" for index in range(1, 5))
    return _joined(
        units(x, "branch3x3_1", "branch3x3_2", stride=2, padding="VALID"),
        units(x, *names, stride=2, padding="VALID"),
        _halved(x),
    )


def _mixed_e(units: _Units, x: _Maps, pool: Callable[[_Maps], _Maps]) -> _Maps:
    narrow = units(x, "branch3x3_1")
    deep = units(x, "branch3x3dbl_1", "branch3x3dbl_2")
    return _joined(
        units(x, "branch1x1"),
        *(units(narrow, f"branch3x3_2{half}") for half in "ab"),
        *(units(deep, f"branch3x3dbl_3{half}") for half in "ab"),
        units(pool(x), "branch_pool"),
    )


def _joined(*branches: _Maps) -> _Maps:
    return jnp.concatenate(branches, axis=-1)


def _window(x: _Maps, start: float, reduce: Any, stride: int, padding: str) -> _Maps:
    return lax.reduce_window(x, start, reduce, (1, 3, 3, 1), (1, stride, stride, 1), padding)


def _halved(x: _Maps) -> _Maps:
    """The maximum of 3 × 3 at every other place."""
    return _window(x, -jnp.inf, lax.max, 2, "VALID")


def _max_around(x: _Maps) -> _Maps:
    """The maximum of the 3 × 3 around each place."""
    return _window(x, -jnp.inf, lax.max, 1, "SAME")


def _mean_around(x: _Maps) -> _Maps:
    """The mean of those of the 3 × 3 around each place that lie within the image."""
    inside = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    return _window(x, 0.0, lax.add, 1, "SAME") / _window(inside, 0.0, lax.add, 1, "SAME")


_BLOCKS: dict[str, tuple[dict[str, Kernel], Callable[[_Units, _Maps], _Maps]]] = {
    "Mixed_5b": (_kind_a(192, 32), _mixed_a),
    "Mixed_5c": (_kind_a(256, 64), _mixed_a),
    "Mixed_5d": (_kind_a(288, 64), _mixed_a),
    "Mixed_6a": (_kind_b(288), _mixed_b),
    "Mixed_6b": (_kind_c(768, 128), _mixed_c),
    "Mixed_6c": (_kind_c(768, 160), _mixed_c),
    "Mixed_6d": (_kind_c(768, 160), _mixed_c),
    "Mixed_6e": (_kind_c(768, 192), _mixed_c),
    "Mixed_7a": (_kind_d(768), _mixed_d),
    "Mixed_7b": (_kind_e(1280), partial(_mixed_e, pool=_mean_around)),
    "Mixed_7c": (_kind_e(2048), partial(_mixed_e, pool=_max_around)),
}
KERNELS: dict[str, Kernel] = {
    "Conv2d_1a_3x3": (32, 3, 3, 3),
    "Conv2d_2a_3x3": (32, 32, 3, 3),
    "Conv2d_2b_3x3": (64, 32, 3, 3),
    "Conv2d_3b_1x1": (80, 64, 1, 1),
    "Conv2d_4a_3x3": (192, 80, 3, 3),
    **{
        f"{block}.{unit}": kernel
        for block, (kernels, _) in _BLOCKS.items()
        for unit, kernel in kernels.items()
    },
}
"""All 94 convolutions, each followed by its batch norm and a ReLU."""


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """The 472 float tensors of the PyTorch file: name → shape."""
    shapes: dict[str, tuple[int, ...]] = {}
    for unit, kernel in KERNELS.items():
        shapes[f"{unit}.conv.weight"] = kernel
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{unit}.bn.{part}"] = kernel[:1]
    return shapes | {"fc.weight": (CLASSES, FEATURES), "fc.bias": (CLASSES,)}


def folded(tensors: dict[str, Any]) -> dict[str, Any]:
    """The tree of float32 arrays that :func:`apply` takes, of the file's tensors.

    A batch norm at rest is y = (x - mean) g / sqrt(var + eps) + b, so its scale goes into the
    kernel and the rest into a bias; computed in float64. Kernels become [h, w, in, out].
    """
    exact = {name: np.asarray(tensor, np.float64) for name, tensor in tensors.items()}
    weights = {}
    for unit in KERNELS:
        gain, bias, mean, variance = (
            exact[f"{unit}.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / np.sqrt(variance + EPS)
        kernel = exact[f"{unit}.conv.weight"].transpose(2, 3, 1, 0) * scale
        weights[unit] = {"kernel": kernel, "bias": bias - mean * scale}
    weights["fc"] = {"kernel": exact["fc.weight"].T}
    return jax.tree.map(lambda array: array.astype(np.float32), weights)


def apply(weights: dict[str, Any], x: Image) -> dict[str, Array]:
    """Features of images in [-1, 1], of 299 × 299.

    Returns:
        ``pool3`` [b, 2048]; ``logits_unbiased`` [b, 1008], without the last layer's bias; ``sfid``
        [b, 2023], the first 7 channels of Mixed_6d's output at its 17 × 17 positions, channels
        last.
    """
    x = _stem(_Units(weights, ""), x)
    outputs = {}
    for block, (_, mix) in _BLOCKS.items():
        x = outputs[block] = mix(_Units(weights, f"{block}."), x)
    pool3 = x.mean(axis=(1, 2))
    logits = jnp.matmul(pool3, weights["fc"]["kernel"], precision=lax.Precision.HIGHEST)
    return {
        "pool3": pool3,
        "logits_unbiased": logits,
        "sfid": outputs["Mixed_6d"][..., :SFID_CHANNELS].reshape(len(x), -1),
    }
