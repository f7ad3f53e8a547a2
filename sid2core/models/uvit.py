"""Residual U-ViT: a U-Net of ResBlocks and Transformer blocks with one skip a level.

The skip carries only what the deeper levels changed (SiD2; three public readings agree):

    encoder level l:  h = blocks_down[l](h);  pos = h;  h = Down(h);  neg = h
    decoder level l:  h = Up(h − neg) + pos;  h = blocks_up[l](h)

With inner levels that change nothing, Up(h − neg) is zero and the level is the identity on its
skip. Depths of encoder and decoder may differ (SiD2 supplement C.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from sid2core.errors import Sid2Error
from sid2core.models.blocks import (
    ZEROS,
    Embedding,
    ResBlock,
    TransformerBlock,
    group_norm,
    lecun_normal,
    linear,
)
from sid2core.models.conditioning import Conditioning
from sid2core.typing import Array, Image, Labels, LogSnr


class ModelError(Sid2Error):
    """The network does not fit the images it is asked to model."""


@dataclass(frozen=True)
class UViTConfig:
    """Shape of a Residual U-ViT; lists have one entry a level, finest first, the last the middle.

    Attributes:
        image_shape: height, width and channels of the image; input and output are of this shape.
        num_classes: classes; label ``num_classes`` is the null class.
        patch_size: side of a patch: the finest level works at height / patch_size.
        channels: width of each level.
        blocks: kind of block of each level.
        encoder_depth: blocks on the way down, for all but the last level.
        decoder_depth: blocks on the way up, likewise.
        mid_depth: blocks of the last level.
        dropout: dropout rate of each level.
        emb_channels: width of the conditioning vector.
        head_size: channels of one attention head.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    patch_size: int
    channels: tuple[int, ...]
    blocks: tuple[Literal["res", "transformer"], ...]
    encoder_depth: tuple[int, ...]
    decoder_depth: tuple[int, ...]
    mid_depth: int
    dropout: tuple[float, ...]
    emb_channels: int
    head_size: int

    def __post_init__(self) -> None:
        factor = self.patch_size * 2 ** (len(self.channels) - 1)
        height, width, _ = self.image_shape
        if height % factor or width % factor:
            msg = (
                f"images of {height}×{width} do not divide by {factor} (patch_size "
                f"{self.patch_size} and {len(self.channels)} levels); change model.patch_size, "
                f"the number of model.channels, or the image size"
            )
            raise ModelError(msg)

    def grid(self, level: int) -> tuple[int, int]:
        """Height and width of the feature maps of ``level``."""
        factor = self.patch_size * 2**level
        return self.image_shape[0] // factor, self.image_shape[1] // factor


class Level(nnx.Module):
    """A run of equal blocks at one resolution."""

    def __init__(self, config: UViTConfig, level: int, depth: int, rngs: nnx.Rngs):
        width, rate, emb = config.channels[level], config.dropout[level], config.emb_channels
        positions = config.blocks[level] == "transformer" and depth > 0
        self.position = (
            nnx.Param(_position_embedding(rngs.params(), (*config.grid(level), width)))
            if positions
            else None
        )
        self.blocks = nnx.List(
            ResBlock(width, emb, rate, rngs)
            if config.blocks[level] == "res"
            else TransformerBlock(width, emb, config.head_size, rate, rngs)
            for _ in range(depth)
        )

    def __call__(self, h: Image, emb: Embedding, dropout_key: Array | None) -> Image:
        """Apply the blocks in order."""
        if self.position is not None:
            h = h + self.position[...][None]
        for index, block in enumerate(self.blocks):
            key = None if dropout_key is None else jax.random.fold_in(dropout_key, index)
            h = block(h, emb, key)
        return h


def _position_embedding(key: Array, shape: tuple[int, ...]) -> Array:
    """N(0, 0.02²), drawn flat: that compiles many times faster on CPU."""
    return 0.02 * jax.random.normal(key, (math.prod(shape),)).reshape(shape)


class Down(nnx.Module):
    """Mean over 2×2, then a 1×1 projection to the next level's width."""

    def __init__(self, channels: int, channels_out: int, rngs: nnx.Rngs):
        self.project = linear(channels, channels_out, rngs)

    def __call__(self, h: Image) -> Image:
        """[b, h, w, c] → [b, h/2, w/2, c_out]."""
        b, height, width, c = h.shape
        return self.project(h.reshape(b, height // 2, 2, width // 2, 2, c).mean(axis=(2, 4)))


class Up(nnx.Module):
    """A 1×1 projection without bias to the finer level's width, then nearest ×2."""

    def __init__(self, channels: int, channels_out: int, rngs: nnx.Rngs):
        self.project = linear(channels, channels_out, rngs, use_bias=False)

    def __call__(self, h: Image) -> Image:
        """[b, h, w, c] → [b, 2h, 2w, c_out]; zero stays zero."""
        return jnp.repeat(jnp.repeat(self.project(h), 2, axis=1), 2, axis=2)


class ResidualUViT(nnx.Module):
    """The denoising network: (z, log-SNR, label) → prediction of z's shape; zero when fresh."""

    def __init__(self, config: UViTConfig, rngs: nnx.Rngs):
        patch, widths, colours = config.patch_size, config.channels, config.image_shape[-1]
        window = (patch, patch)
        levels = range(len(widths) - 1)
        self.config = config
        self.conditioning = Conditioning(config.num_classes, config.emb_channels, rngs)
        self.patch_in = nnx.Conv(
            colours, widths[0], window, window, padding="VALID", kernel_init=lecun_normal, rngs=rngs
        )
        self.encoder = nnx.List(Level(config, i, config.encoder_depth[i], rngs) for i in levels)
        self.down = nnx.List(Down(widths[i], widths[i + 1], rngs) for i in levels)
        self.middle = Level(config, len(widths) - 1, config.mid_depth, rngs)
        self.up = nnx.List(Up(widths[i + 1], widths[i], rngs) for i in levels)
        self.decoder = nnx.List(Level(config, i, config.decoder_depth[i], rngs) for i in levels)
        self.norm_out = group_norm(widths[0], rngs)
        self.patch_out = nnx.ConvTranspose(
            widths[0], colours, window, window, padding="VALID", kernel_init=ZEROS, rngs=rngs
        )

    def __call__(
        self, z: Image, logsnr: LogSnr, labels: Labels, dropout_key: Array | None = None
    ) -> Image:
        """Predict v (or eps, or x) for noisy images ``z`` [b, h, w, c].

        Args:
            z: noisy images.
            logsnr: log-SNR of each, [b].
            labels: class of each, [b]; ``num_classes`` is the null class.
            dropout_key: switches dropout on; without it the network is deterministic.
        """
        levels = len(self.encoder)
        keys = iter(_split(dropout_key, 2 * levels + 1))
        emb = self.conditioning(logsnr, labels)
        h, skips = self.patch_in(z), []
        for blocks, down in zip(self.encoder, self.down, strict=True):
            pos = blocks(h, emb, next(keys))
            h = down(pos)
            skips.append((pos, h))
        h = self.middle(h, emb, next(keys))
        for level in reversed(range(levels)):
            pos, neg = skips[level]
            h = self.up[level](h - neg) + pos
            h = self.decoder[level](h, emb, next(keys))
        return self.patch_out(nnx.swish(self.norm_out(h)))


def _split(key: Array | None, count: int) -> list[Array | None]:
    return [None] * count if key is None else list(jax.random.split(key, count))
