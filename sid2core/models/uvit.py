"""Residual U-ViT: a U-Net of ResBlocks and Transformer blocks with one skip a level.

The skip carries only what the deeper levels changed (SiD2; three public readings agree):

    encoder level l:  h = blocks_down[l](h);  pos = h;  h = Down(h);  neg = h
    decoder level l:  h = Up(h − neg) + pos;  h = blocks_up[l](h)

With inner levels that change nothing, Up(h − neg) is zero and the level is the identity on its
skip. Depths of encoder and decoder may differ (SiD2 supplement C.3). Images and clips differ in
the number of axes alone: convolutions are 3×3 or 3×3×3, attention sees all positions of all frames
(SiD2 supplement B.7).

Given frames are put before z in time, with a further channel that says which frames are given. The
output is that of z's frames:  out = net([g·there, z], [there, 0])[k:].
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx

from sid2core.conditioning import Condition, Given
from sid2core.models import sharding
from sid2core.models.architecture import UViTConfig
from sid2core.models.blocks import Embedded, ResBlock, TransformerBlock
from sid2core.models.conditioning import Conditioning
from sid2core.models.dropout import DropoutKey, split
from sid2core.models.execution import Execution, Remat, recomputed, run_blocks
from sid2core.models.layers import (
    ZEROS,
    group_norm,
    lecun_normal,
    linear,
    position_embedding,
    swish,
)
from sid2core.models.text_input import TextInput
from sid2core.typing import LogSnr, Samples

BLOCKS = {"res": ResBlock, "transformer": TransformerBlock}
"""Each value of ``model.blocks``."""


class Level(nnx.Module):
    """A run of equal blocks at one resolution."""

    def __init__(
        self, config: UViTConfig, level: int, depth: int, execution: Execution, rngs: nnx.Rngs
    ):
        kind = config.blocks[level]
        learned = kind == "transformer" and config.position == "learned" and depth > 0
        shape = (*config.grid(level), config.channels[level])
        self.position = nnx.Param(position_embedding(rngs.params(), shape)) if learned else None
        self.blocks = nnx.List(BLOCKS[kind](config, level, execution, rngs) for _ in range(depth))
        self.execution = execution

    def __call__(self, h: Samples, condition: Embedded, dropout_key: DropoutKey | None) -> Samples:
        """Apply the blocks in order."""
        if self.position is not None:
            h = h + sharding.gathered(self.position[...].astype(h.dtype))[None]
        return run_blocks(self.blocks, h, condition, dropout_key, self.execution)


class Down(nnx.Module):
    """Mean over 2×2 (and over frames that go), then a 1×1 projection to the next level's width."""

    def __init__(self, config: UViTConfig, level: int, rngs: nnx.Rngs):
        width, deeper = config.channels[level : level + 2]
        self.project = linear(width, deeper, rngs, dtype=config.compute_dtype)
        self.stride = config.stride(level)

    def __call__(self, h: Samples) -> Samples:
        """[b, h, w, c] → [b, h/2, w/2, c_out], frames likewise by their stride."""
        batch, *grid, channels = h.shape
        split = [
            part
            for size, stride in zip(grid, self.stride, strict=True)
            for part in (size // stride, stride)
        ]
        axes = tuple(range(2, 2 + len(split), 2))
        return self.project(h.reshape(batch, *split, channels).mean(axis=axes))


class Up(nnx.Module):
    """A 1×1 projection without bias to the finer level's width, then nearest ×2."""

    def __init__(self, config: UViTConfig, level: int, rngs: nnx.Rngs):
        finer, width = config.channels[level : level + 2]
        self.project = linear(width, finer, rngs, use_bias=False, dtype=config.compute_dtype)
        self.stride = config.stride(level)

    def __call__(self, h: Samples) -> Samples:
        """[b, h, w, c] → [b, 2h, 2w, c_out], frames likewise by their stride; zero stays zero."""
        h = self.project(h)
        for axis, stride in enumerate(self.stride, start=1):
            h = jnp.repeat(h, stride, axis=axis)
        return h


def after(given: Given, z: Samples) -> Samples:
    """Clips [b, k + f, h, w, c + 1]: the given frames in [-1, 1], then z, and the mask channel.

    Given frames that are not there are 0, as is their mask.
    """
    there = given.there.astype(z.dtype).reshape(-1, 1, 1, 1, 1)
    frames = (given.frames.astype(z.dtype) / 127.5 - 1.0) * there
    clip = jnp.concatenate([frames, z], axis=1)
    mask = jnp.concatenate(
        [jnp.broadcast_to(there, (*frames.shape[:-1], 1)), jnp.zeros((*z.shape[:-1], 1), z.dtype)],
        axis=1,
    )
    return jnp.concatenate([clip, mask], axis=-1)


class ResidualUViT(nnx.Module):
    """The denoising network: (z, log-SNR, condition) → prediction of z's shape; zero when fresh."""

    def __init__(self, config: UViTConfig, execution: Execution, rngs: nnx.Rngs):
        widths, colours, patch = config.channels, config.image_shape[-1], config.patch()
        levels, dtype = range(len(widths) - 1), config.compute_dtype
        self.config, self.execution = config, execution
        self.conditioning = Conditioning(config.condition, config.emb_channels, rngs)
        window: dict[str, Any] = {
            "kernel_size": patch,
            "strides": patch,
            "padding": "VALID",
            "promote_dtype": sharding.promoted,
            "rngs": rngs,
        }
        self.patch_in = nnx.Conv(
            colours + (config.given_frames > 0),
            widths[0],
            kernel_init=lecun_normal,
            dtype=dtype,
            **window,
        )

        def level(index: int, depth: int) -> Level:
            return Level(config, index, depth, execution, rngs)

        self.encoder = nnx.List(level(i, config.encoder_depth[i]) for i in levels)
        self.down = nnx.List(Down(config, i, rngs) for i in levels)
        self.middle = level(len(levels), config.mid_depth)
        self.up = nnx.List(Up(config, i, rngs) for i in levels)
        self.decoder = nnx.List(level(i, config.decoder_depth[i]) for i in levels)
        self.norm_out = group_norm(widths[0], rngs)
        self.patch_out = nnx.ConvTranspose(widths[0], colours, kernel_init=ZEROS, **window)
        self.text = None if config.text_width is None else TextInput(config, rngs)

    def __call__(
        self,
        z: Samples,
        logsnr: LogSnr,
        condition: Condition,
        dropout_key: DropoutKey | None = None,
    ) -> Samples:
        """Predict v (or eps, or x) for noisy examples ``z`` [b, (f,) h, w, c]; float32.

        Args:
            z: noisy images or clips.
            logsnr: log-SNR of each, [b].
            condition: of the kinds in ``config.condition``.
            dropout_key: switches dropout on; without it the network is deterministic.

        Raises:
            ConditionError: a kind is missing or superfluous.
        """
        self.config.condition.check(condition)
        levels = len(self.encoder)
        keys = iter(split(dropout_key, 2 * levels + 1))
        embedded = self._embedded(logsnr, condition)
        h, skips = self.patch_in(z if condition.given is None else after(condition.given, z)), []
        for level, down in zip(self.encoder, self.down, strict=True):
            pos = self._run(level, h, embedded, next(keys))
            h = down(pos)
            skips.append((pos, h))
        h = self._run(self.middle, h, embedded, next(keys))
        for index in reversed(range(levels)):
            pos, neg = skips[index]
            h = self.up[index](h - neg) + pos
            h = self._run(self.decoder[index], h, embedded, next(keys))
        h = swish(self.norm_out(h), jnp.float32)
        return self.patch_out(h[:, self.config.given_frames :] if self.config.given_frames else h)

    def _embedded(self, logsnr: LogSnr, condition: Condition) -> Embedded:
        emb = self.conditioning(logsnr, condition)
        if self.text is None or condition.text is None:
            return Embedded(emb)
        text, pooled = self.text(condition.text)
        return Embedded(emb if pooled is None else emb + pooled, text)

    def _run(self, level: Level, *arguments: Any) -> Samples:
        call = recomputed(level) if self.execution.remat is Remat.FULL else level
        return call(*arguments)
