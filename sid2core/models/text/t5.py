"""The encoder of T5 (arXiv 1910.10683), v1.1 and Flan-T5, to be run with published weights.

Weights keep the published layout: matrices are [out, in].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from sid2core.typing import Array, Bool, Float, Int

Vectors = Float[Array, "b n c"]
Mask = Bool[Array, "b n"]
Bias = Float[Array, "b h n n"]
"""What is added to the scores of queries and keys."""
_MASKED = -1e9


@dataclass(frozen=True)
class T5Config:
    """Sizes of a T5 encoder.

    Attributes:
        vocabulary: rows of the embedding.
        channels: width of the tokens.
        head_size: channels of an attention head, which need not be ``channels / heads``.
        hidden: width inside of the MLP.
        layers: number of layers.
        heads: attention heads of each.
        buckets: of relative positions, half of them for each direction.
        max_distance: positions from there on share a bucket.
        epsilon: of the norms.
        gated: whether the MLP is gelu(x A) · (x B), as in v1.1; else relu(x A).
    """

    vocabulary: int
    channels: int
    head_size: int
    hidden: int
    layers: int
    heads: int
    buckets: int
    max_distance: int
    epsilon: float
    gated: bool

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The published name and shape of every weight."""
        names = _names(self)
        encoder = nnx.eval_shape(lambda: T5Encoder(self))
        leaves = nnx.to_flat_state(nnx.state(encoder))
        return {names[".".join(map(str, path))]: tuple(leaf.shape) for path, leaf in leaves}

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(math.prod(shape) for shape in self.shapes().values())


def relative_buckets(length: int, buckets: int, max_distance: int) -> NDArray[np.int32]:
    """The bucket of the distance d = key − query, [n, n] of queries and keys.

    With m = buckets / 2 and e = m / 2: |d| below e, else
    min(m − 1, e + ⌊(m − e) log(|d| / e) / log(max_distance / e)⌋); m more for d > 0.
    """
    distance = np.arange(length)[None, :] - np.arange(length)[:, None]
    half = buckets // 2
    exact, size = half // 2, np.abs(distance)
    # A quotient of logarithms that is a whole number is one here, too, not a rounding below it.
    ratio = np.log(np.maximum(size, 1) / exact) / math.log(max_distance / exact)
    far = exact + np.floor((half - exact) * ratio + 1e-9).astype(np.int64)
    found = np.where(size < exact, size, np.minimum(far, half - 1))
    return (found + half * (distance > 0)).astype(np.int32)


class RMSNorm(nnx.Module):
    """x / sqrt(mean(x²) + epsilon) · weight, in float32."""

    def __init__(self, config: T5Config, dtype: Any):
        self.weight = nnx.Param(jnp.ones((config.channels,), dtype))
        self.epsilon = config.epsilon

    def __call__(self, x: Vectors) -> Vectors:
        """Normalise ``x``; the result is of the weights' type."""
        wide = x.astype(jnp.float32)
        scale = jax.lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + self.epsilon)
        weight = self.weight[...]
        return (wide * scale * weight.astype(jnp.float32)[None, None]).astype(weight.dtype)


class Attention(nnx.Module):
    """softmax(q kᵀ + bias) v, without a scale and without biases of the matrices."""

    def __init__(self, config: T5Config, dtype: Any):
        inner = config.heads * config.head_size
        self.q, self.k, self.v = (_weight(inner, config.channels, dtype) for _ in range(3))
        self.o = _weight(config.channels, inner, dtype)
        self.heads = config.heads

    def __call__(self, x: Vectors, bias: Bias) -> Vectors:
        """The attention of each token to those that ``bias`` allows."""
        b, n, _ = x.shape
        q, k, v = (
            _times(x, one[...]).reshape(b, n, self.heads, -1) for one in (self.q, self.k, self.v)
        )
        scores = jnp.einsum(
            "bqhd,bkhd->bhqk", q, k, precision="highest", preferred_element_type=jnp.float32
        )
        weights = jax.nn.softmax(scores + bias, axis=-1).astype(v.dtype)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v, precision="highest")
        return _times(mixed.reshape(b, n, -1), self.o[...])


class MLP(nnx.Module):
    """gelu(x A) · (x B), or relu(x A), times C."""

    def __init__(self, config: T5Config, dtype: Any):
        self.into = _weight(config.hidden, config.channels, dtype)
        self.gate = _weight(config.hidden, config.channels, dtype) if config.gated else None
        self.out = _weight(config.channels, config.hidden, dtype)

    def __call__(self, x: Vectors) -> Vectors:
        """Apply it to each token."""
        h = _times(x, self.into[...])
        h = jax.nn.relu(h) if self.gate is None else jax.nn.gelu(h) * _times(x, self.gate[...])
        return _times(h, self.out[...])


class Layer(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: T5Config, dtype: Any):
        self.norm_attention, self.attention = RMSNorm(config, dtype), Attention(config, dtype)
        self.norm_mlp, self.mlp = RMSNorm(config, dtype), MLP(config, dtype)

    def __call__(self, x: Vectors, bias: Bias) -> Vectors:
        """Apply the layer."""
        x = x + self.attention(self.norm_attention(x), bias)
        return x + self.mlp(self.norm_mlp(x))


class T5Encoder(nnx.Module):
    """ids [b, n] to vectors [b, n, c]; all layers share one bias by relative position.

    Weights and tokens are of ``dtype``, norms and softmax float32. Freshly made its weights are
    zeros or ones; :func:`load` takes those of a file.
    """

    def __init__(self, config: T5Config, dtype: Literal["float32", "bfloat16"] = "float32"):
        kind = jnp.dtype(dtype)
        self.config = config
        self.embedding = _weight(config.vocabulary, config.channels, kind)
        self.bias = _weight(config.buckets, config.heads, kind)
        self.layers = nnx.List([Layer(config, kind) for _ in range(config.layers)])
        self.norm = RMSNorm(config, kind)

    def __call__(self, ids: Int[Array, "b n"], mask: Mask) -> Vectors:
        """The vectors of the tokens; zero where the mask is false."""
        config = self.config
        buckets = relative_buckets(ids.shape[1], config.buckets, config.max_distance)
        positions = jnp.moveaxis(self.bias[...].astype(jnp.float32)[buckets], -1, 0)
        bias = positions[None] + jnp.where(mask, 0.0, _MASKED)[:, None, None, :]
        x = jnp.take(self.embedding[...], ids, axis=0)
        for layer in self.layers:
            x = layer(x, bias)
        x = self.norm(x)
        return jnp.where(mask[..., None], x, jnp.zeros((), x.dtype))


def load(
    config: T5Config,
    dtype: Literal["float32", "bfloat16"],
    read: Callable[[str], Any],
) -> T5Encoder:
    """The encoder with published weights.

    Args:
        config: its sizes.
        dtype: of weights and tokens.
        read: the weight of a published name, as an array on the devices and of any float type.
    """
    encoder = nnx.eval_shape(lambda: T5Encoder(config, dtype))
    graph, state = nnx.split(encoder)
    flat = dict(nnx.to_flat_state(state))
    names = _names(config)
    for path, leaf in flat.items():
        flat[path] = leaf.replace(read(names[".".join(map(str, path))]).astype(leaf.dtype))
    return nnx.merge(graph, nnx.from_flat_state(flat))


def gflops(config: T5Config, tokens: int) -> float:
    """Multiply-adds of a text of n tokens, in billions: its matrices, and 2 n² a of attention."""
    inner = config.heads * config.head_size
    mlp = (3 if config.gated else 2) * config.channels * config.hidden
    matrices = 4 * config.channels * inner + mlp
    return config.layers * (matrices * tokens + 2 * tokens**2 * inner) / 1e9


def _names(config: T5Config) -> dict[str, str]:
    """The published name of each weight by its path in :class:`T5Encoder`."""
    into = {"into": "wi_0", "gate": "wi_1"} if config.gated else {"into": "wi"}
    names = {
        "embedding": "shared.weight",
        "bias": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "norm.weight": "encoder.final_layer_norm.weight",
    }
    for index in range(config.layers):
        own, published = f"layers.{index}", f"encoder.block.{index}.layer"
        names[f"{own}.norm_attention.weight"] = f"{published}.0.layer_norm.weight"
        names[f"{own}.norm_mlp.weight"] = f"{published}.1.layer_norm.weight"
        for name in ("q", "k", "v", "o"):
            names[f"{own}.attention.{name}"] = f"{published}.0.SelfAttention.{name}.weight"
        for name, outside in (into | {"out": "wo"}).items():
            names[f"{own}.mlp.{name}"] = f"{published}.1.DenseReluDense.{outside}.weight"
    return names


def _weight(outputs: int, inputs: int, dtype: Any) -> nnx.Param:
    return nnx.Param(jnp.zeros((outputs, inputs), dtype))


def _times(x: Float[Array, "b n i"], weight: Float[Array, "o i"]) -> Float[Array, "b n o"]:
    """X Wᵀ."""
    return jnp.einsum("bni,oi->bno", x, weight, precision="highest")
