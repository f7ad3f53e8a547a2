"""Weights under PyTorch's names and in its layouts, and back.

    encoder/0/blocks/1/qkv/kernel [in, out]  ↔  encoder.0.blocks.1.qkv.weight [out, in]

A convolution's kernel goes from [*window, in, out] to [out, in, *window]. The patches are linear
maps of the pixels of one patch: ``patch_in`` [out, pixels], ``patch_out`` [pixels, in].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]
Arrays = dict[str, NDArray[Any]]


def to_torch(name: str, value: NDArray[Any]) -> tuple[str, NDArray[Any]]:
    """The weight ``name`` as PyTorch has it."""
    path, _, last = name.rpartition("/")
    if last == "kernel":
        return f"{path}.weight".replace("/", "."), _laid_out(path, value)
    renamed = last == "scale" or name == "conditioning/classes/embedding"
    return (f"{path}/weight" if renamed else name).replace("/", "."), value


def all_to_torch(params: Mapping[str, Any]) -> Arrays:
    """All weights as PyTorch has them."""
    found = (to_torch(name, np.asarray(params[name])) for name in sorted(params))
    return {name: np.ascontiguousarray(value) for name, value in found}


def from_torch(arrays: Mapping[str, Any], shapes: Mapping[str, Shape]) -> Arrays:
    """The inverse for a network whose weights have these names and shapes, which ``arrays`` fit."""
    found = {}
    for name, shape in shapes.items():
        places = np.arange(np.prod(shape, dtype=int)).reshape(shape)
        theirs, order = to_torch(name, places)
        value = np.empty(places.size, arrays[theirs].dtype)
        value[order.reshape(-1)] = arrays[theirs].reshape(-1)
        found[name] = value.reshape(shape)
    return found


def torch_shapes(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Names and shapes as PyTorch has them, without allocating any weight."""
    found = (to_torch(name, np.broadcast_to(np.float32(0), one)) for name, one in shapes.items())
    return {name: value.shape for name, value in found}


def _laid_out(path: str, kernel: NDArray[Any]) -> NDArray[Any]:
    if path == "patch_in":
        return kernel.reshape(-1, kernel.shape[-1]).T
    if path == "patch_out":  # Flax runs this kernel backwards along rows and columns
        turned = np.flip(kernel, (-4, -3)).swapaxes(-2, -1)
        return turned.reshape(-1, kernel.shape[-2])
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def difference(found: Mapping[str, Shape], expected: Mapping[str, Shape]) -> str | None:
    """The first weight that is not as expected; None where all are."""
    for name, shape in expected.items():
        if name not in found:
            return f"has no {name}, expected {shape}"
        if found[name] != shape:
            return f"has {name} of shape {found[name]}, expected {shape}"
    left = sorted(set(found) - set(expected))
    return f"has {left[0]}, which the network does not" if left else None
