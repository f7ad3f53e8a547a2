"""DINOv2, the extractor of FD-DINOv2: the class token of ViT-L/14 without registers.

The protocol is that of arXiv 2306.04675 (layer6ai-labs/dgm-eval, its defaults): images are resized
to 224×224 by Pillow's bicubic filter with antialias and rounded to uint8, then (x/255 - mean) / std
of ImageNet. EDM2 resizes in float instead and reports almost the same results; its published
statistics are of that resize. The network is that of arXiv 2304.07193. Its position embedding is
resized as the original code does: bicubic, without antialias, by the scale (16 + 0.1) / 37.

The user supplies the weights: Hugging Face's safetensors or Meta's ``.pth``. The names of the
tensors distinguish them, and both have the same digest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from numpy.typing import NDArray
from PIL import Image

from sid2core.config.evaluation import Weights
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import pretrained
from sid2core.metrics.networks.batching import Batching
from sid2core.metrics.networks.pretrained import WEIGHTS, Pretrained
from sid2core.metrics.networks.protocol import POOL, Files
from sid2core.metrics.networks.torchfile import Tensors
from sid2core.metrics.networks.weights import Published
from sid2core.typing import Array, Float

NAME = "dinov2"
PUBLISHED = (
    Published(
        "model.safetensors",
        1_217_522_888,
        "399fba97a95f22c36834418bc69373364a99af3a1153da1c0fb31db567c92e23",
        "facebook/dinov2-large on Hugging Face",
        "https://huggingface.co/facebook/dinov2-large/resolve/main/model.safetensors",
    ),
    Published(
        "dinov2_vitl14_pretrain.pth",
        1_217_586_395,
        "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
        "facebookresearch/dinov2 on GitHub",
        "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
    ),
)
BATCH_SIZE = 32
"""Images that a device takes at once."""
_SIZE = 224
_PATCH = 14
_GRID = _SIZE // _PATCH
_HEAD = 64  # channels of an attention head, in every DINOv2
_OFFSET = 0.1  # added by the original code against rounding of the scale
_EPS = 1e-6
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_OTHER_NAMES = {  # Hugging Face's
    r"^embeddings\.cls_token$": "cls_token",
    r"^embeddings\.position_embeddings$": "pos_embed",
    r"^embeddings\.patch_embeddings\.projection\.": "patch_embed.proj.",
    r"^layernorm\.": "norm.",
    r"^encoder\.layer\.": "blocks.",
    r"\.attention\.output\.dense\.": ".attn.proj.",
    r"\.layer_scale([12])\.lambda1$": r".ls\1.gamma",
}

Params = dict[str, Any]
"""Arrays by name; under ``blocks``, those of all blocks, stacked."""


def load(path: Path | str, verify: bool = True, *, batching: Batching | None = None) -> DINOv2:
    """Read one of the files of :data:`PUBLISHED`, or a safetensors file made from one.

    Args:
        path: the user's file.
        verify: whether it must be a published one, by size and SHA-256; the publishers state
            neither, so these are the values that several independent users report. Otherwise a
            DINOv2 of any width and depth is accepted if its blocks have the plain MLP.
        batching: the size and the placement of batches; by default 32 images on one device.

    Raises:
        MetricsError: the file is missing, damaged, or not the expected one.
    """
    tensors, origin = pretrained.obtain(Path(path), PUBLISHED, verify)
    named, what = _renamed(tensors), f"{path} is not a DINOv2 without registers"
    fitted = pretrained.fitted(named, shapes(named), what)
    return DINOv2(fitted, origin, batching or Batching(BATCH_SIZE))


def shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    """The tensors of a DINOv2 of the width, depth and grid of these; those of ViT-L by default."""
    width = tensors["norm.weight"].size if "norm.weight" in tensors else 1024
    tokens = tensors["pos_embed"].shape[1] if "pos_embed" in tensors else 37**2 + 1
    indices = [int(name.split(".")[1]) for name in tensors if re.match(r"blocks\.\d+\.", name)]
    found: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, math.isqrt(tokens - 1) ** 2 + 1, width),
        "patch_embed.proj.weight": (width, 3, _PATCH, _PATCH),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for index in range(max(indices, default=0) + 1):
        found |= {f"blocks.{index}.{name}": one for name, one in _block_shapes(width).items()}
    return found


def _block_shapes(width: int) -> dict[str, tuple[int, ...]]:
    linears = {
        "attn.qkv": (3 * width, width),
        "attn.proj": (width, width),
        "mlp.fc1": (4 * width, width),
        "mlp.fc2": (width, 4 * width),
    }
    vectors = ("norm1.weight", "norm1.bias", "ls1.gamma", "norm2.weight", "norm2.bias", "ls2.gamma")
    found: dict[str, tuple[int, ...]] = {name: (width,) for name in vectors}
    for name, shape in linears.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return found


def _renamed(tensors: Tensors) -> Tensors:
    """Under Meta's names, in which query, key and value are one."""

    def renamed(name: str) -> str:
        name = name.removeprefix("dinov2.")
        for other, ours in _OTHER_NAMES.items():
            name = re.sub(other, ours, name)
        return name

    found = {renamed(name): tensor for name, tensor in tensors.items()}
    for name in [name for name in found if ".attention.attention.query." in name]:
        parts = [name.replace("query", part) for part in ("query", "key", "value")]
        if all(part in found for part in parts):
            joined = name.replace("attention.attention.query", "attn.qkv")
            found[joined] = np.concatenate([found.pop(part) for part in parts])
    if any("register_tokens" in name for name in found):
        msg = "the weights are of a DINOv2 with registers; FD-DINOv2 is defined by the one without"
        raise MetricsError(msg)
    return found


@dataclass(frozen=True, eq=False)
class DINOv2(Pretrained):
    """DINOv2; ``tensors`` have Meta's names.

    Features are ``pool`` [n, width], the class token after the last norm.
    """

    name: ClassVar[str] = NAME
    distance: ClassVar[str] = "fd_dinov2"
    kernel: ClassVar[str] = "kd_dinov2"

    @property
    def widths(self) -> Mapping[str, int]:
        """The number of features of each kind."""
        return {POOL: self.tensors["norm.weight"].size}

    @property
    def provenance(self) -> Mapping[str, Any]:
        """JSON values that must agree before statistics of its features are compared."""
        return {
            **super().provenance,
            "features": "class token after the norm",
            "resize": "224, Pillow bicubic, antialias, uint8; ImageNet mean and std",
        }

    @classmethod
    def from_settings(cls, settings: Weights, sharding: NamedSharding | None = None) -> DINOv2:
        """The extractor of ``eval.extractors.dinov2``, its weights verified."""
        return load(settings.weights or "", batching=Batching(BATCH_SIZE, sharding))

    @classmethod
    def load(cls, file: Files, sharding: NamedSharding | None = None) -> DINOv2:
        """The extractor that :meth:`save` wrote."""
        return load(file(WEIGHTS), False, batching=Batching(BATCH_SIZE, sharding))

    def _tree(self) -> Any:
        return prepare(self.tensors)

    def _prepare(self, images: NDArray[Any]) -> NDArray[Any]:
        return resized(images)

    def _apply(self, weights: Any, images: jax.Array) -> Mapping[str, jax.Array]:
        return {POOL: _network(weights, images)}


@jax.jit
def _network(params: Params, images: Array) -> Array:
    return class_token(params, normalised(images))


def resized(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pillow's antialiased bicubic, rounded to uint8: [n, h, w, c] to [n, 224, 224, 3]."""
    found = np.empty((len(images), _SIZE, _SIZE, 3), np.uint8)
    for image, place in zip(images, found, strict=True):
        colours = np.broadcast_to(image, (*image.shape[:2], 3))
        whole = Image.fromarray(np.ascontiguousarray(colours))
        place[:] = np.asarray(whole.resize((_SIZE, _SIZE), Image.Resampling.BICUBIC))
    return found


def normalised(images: Array) -> Array:
    """(x/255 - mean) / std, by channel."""
    mean, std = (jnp.asarray(one, jnp.float32).reshape(1, 1, 1, 3) for one in (_MEAN, _STD))
    return (images.astype(jnp.float32) / 255 - mean) / std


def prepare(tensors: Tensors) -> Params:
    """Matrices as [in, out], vectors as [1, 1, d], the position embedding for 16×16 patches."""
    stacked: dict[str, list[Any]] = {}
    ready: Params = {}
    for name, tensor in tensors.items():
        if name.startswith("blocks."):
            _, _, part = name.split(".", 2)
            stacked.setdefault(part, []).append(_laid_out(tensor))
        else:
            ready[name] = tensor if name in ("cls_token", "pos_embed") else _laid_out(tensor)
    ready["pos_embed"] = _positions(tensors["pos_embed"])
    return ready | {"blocks": {name: np.stack(parts) for name, parts in stacked.items()}}


def _laid_out(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    if tensor.ndim == 4:  # a patch's pixels come as [h, w, c]
        return tensor.transpose(2, 3, 1, 0).reshape(-1, len(tensor))
    return tensor.T if tensor.ndim == 2 else tensor.reshape(1, 1, -1)


def _positions(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """[1, 1 + m², d] to [1, 1 + 16², d]; the class token's stays as it is."""
    _, tokens, width = embedding.shape
    side = math.isqrt(tokens - 1)
    if side == _GRID:
        return embedding
    matrix = bicubic(side, _GRID)
    grid = embedding[0, 1:].astype(np.float64).reshape(side, side, width)
    smaller = np.einsum("pi,qj,ijd->pqd", matrix, matrix, grid, optimize=True)
    flat = smaller.reshape(1, _GRID**2, width).astype(np.float32)
    return np.concatenate([embedding[:, :1], flat], axis=1)


def bicubic(size: int, out: int) -> NDArray[np.float64]:
    """[out, size]: PyTorch's bicubic (a = -3/4, edges repeated), scale (out + 0.1) / size."""
    sources = (np.arange(out) + 0.5) * size / (out + _OFFSET) - 0.5
    first = np.floor(sources).astype(int) - 1
    matrix = np.zeros((out, size))
    for tap in range(first.min(), first.max() + 4):
        inside = (tap >= first) & (tap < first + 4)
        weight = np.where(inside, _cubic(np.abs(sources - tap)), 0.0)
        matrix[:, np.clip(tap, 0, size - 1)] += weight
    return matrix


def _cubic(x: NDArray[np.float64], a: float = -0.75) -> NDArray[np.float64]:
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, far)


def class_token(params: Params, x: Float[Array, "n h w 3"]) -> Float[Array, "n d"]:
    """The network on normalised images of 224×224; the class token after the last norm."""
    with jax.default_matmul_precision("highest"):
        count = len(x)
        patches = x.reshape(count, _GRID, _PATCH, _GRID, _PATCH, 3).swapaxes(2, 3)
        patches = patches.reshape(count, _GRID**2, _PATCH**2 * 3)
        tokens = patches @ params["patch_embed.proj.weight"] + params["patch_embed.proj.bias"]
        first = jnp.broadcast_to(params["cls_token"], (count, 1, tokens.shape[-1]))
        tokens = jnp.concatenate([first, tokens], axis=1) + params["pos_embed"]
        tokens, _ = jax.lax.scan(lambda x, w: (_block(x, w), None), tokens, params["blocks"])
        return _norm(tokens[:, :1], params, "norm")[:, 0]


def _block(x: Array, params: Params) -> Array:
    x = x + params["ls1.gamma"] * _attention(_norm(x, params, "norm1"), params)
    hidden = jax.nn.gelu(_linear(_norm(x, params, "norm2"), params, "mlp.fc1"), approximate=False)
    return x + params["ls2.gamma"] * _linear(hidden, params, "mlp.fc2")


def _attention(x: Array, params: Params) -> Array:
    count, tokens, width = x.shape
    qkv = _linear(x, params, "attn.qkv").reshape(count, tokens, 3, width // _HEAD, _HEAD)
    query, key, value = jnp.moveaxis(qkv, 2, 0)
    scores = jnp.einsum("nqhc,nkhc->nhqk", query / math.sqrt(_HEAD), key)
    mixed = jnp.einsum("nhqk,nkhc->nqhc", jax.nn.softmax(scores), value)
    return _linear(mixed.reshape(count, tokens, width), params, "attn.proj")


def _linear(x: Array, params: Params, name: str) -> Array:
    return x @ params[f"{name}.weight"] + params[f"{name}.bias"]


def _norm(x: Array, params: Params, name: str) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = jax.lax.rsqrt((centred**2).mean(axis=-1, keepdims=True) + _EPS)
    return centred * scale * params[f"{name}.weight"] + params[f"{name}.bias"]
