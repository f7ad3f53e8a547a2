"""What a forward pass costs, by the supplement's own count (SiD2 supplement B.3).

One multiply-add is one FLOP; only matrix products, convolutions and attention count; a training
step costs three forward passes.
"""

from __future__ import annotations

import math

from sid2core.models.architecture import UViTConfig

FORWARDS_PER_TRAINING_STEP = 3


def transformer_gflops(tokens: int, channels: int, blocks: int) -> float:
    """(12 c² n + 2 n² c) · blocks / 10⁹ for n tokens (SiD2 supplement B.3, n = size²)."""
    return (12 * channels**2 * tokens + 2 * tokens**2 * channels) * blocks / 1e9


def attention_gflops(config: UViTConfig) -> float:
    """GFLOPs of attention's own products in a forward pass: 2 n (n + m) c with m text tokens."""
    text = 0 if config.condition.text is None else config.condition.text.tokens
    total = 0.0
    for level, (channels, kind) in enumerate(zip(config.channels, config.blocks, strict=True)):
        if kind == "transformer":
            n = math.prod(config.grid(level))
            total += 2 * n * (n + text) * channels * config.depth(level) / 1e9
    return total


def resblock_gflops(positions: int, channels: int, blocks: int, axes: int = 2) -> float:
    """2 · 3² · c² · n · blocks / 10⁹ for n positions (SiD2 supplement B.3, n = size²).

    For video 2 · 3³ · c² · n · blocks / 10⁹, ``axes`` being 3 (SiD2 supplement B.7).
    """
    return 2 * 3**axes * channels**2 * positions * blocks / 1e9


def level_gflops(config: UViTConfig) -> list[float]:
    """GFLOPs of each level's blocks for one example, finest level first."""
    counts = []
    for level, (channels, kind) in enumerate(zip(config.channels, config.blocks, strict=True)):
        grid, depth = config.grid(level), config.depth(level)
        positions = math.prod(grid)
        counts.append(
            transformer_gflops(positions, channels, depth)
            if kind == "transformer"
            else resblock_gflops(positions, channels, depth, len(grid))
        )
    return counts


def text_gflops(config: UViTConfig) -> dict[str, float]:
    """GFLOPs of what text adds to a forward pass, by part; empty without text.

    For n tokens of width w and d channels of the encoder, emb e, and in each Transformer block c
    channels and p positions: projection n d w; pooled w e + e²; keys and values 2 n w c; attention
    2 p n c. A learned encoder is a Transformer of n tokens (supplement B.3); a frozen one is not
    part of the network.
    """
    kind, width = config.condition.text, config.text_width
    if kind is None or width is None:
        return {}
    tokens, emb = kind.tokens, config.emb_channels
    keys = attention = 0.0
    for level, (channels, block) in enumerate(zip(config.channels, config.blocks, strict=True)):
        if block == "transformer":
            blocks = config.depth(level)
            keys += 2 * tokens * width * channels * blocks / 1e9
            attention += 2 * math.prod(config.grid(level)) * tokens * channels * blocks / 1e9
    encoder = transformer_gflops(tokens, kind.channels, kind.depth or 0) if kind.learned else 0.0
    return {
        "encoder": encoder,
        "projection": tokens * kind.channels * width / 1e9,
        "pooled": (width * emb + emb * emb) / 1e9 if config.text_pooled else 0.0,
        "keys and values": keys,
        "attention": attention,
    }


def forward_gflops(config: UViTConfig) -> float:
    """GFLOPs of one forward pass of one image, with its text."""
    return sum(level_gflops(config)) + sum(text_gflops(config).values())


def training_pflops(config: UViTConfig, images: int) -> float:
    """PetaFLOPs of training on ``images`` images, each a forward pass times three."""
    return forward_gflops(config) * FORWARDS_PER_TRAINING_STEP * images / 1e6
