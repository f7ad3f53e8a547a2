"""The Residual U-ViT in PyTorch, written from its formulas and not from ``sid2core``.

Parity tests compare outputs, benchmarks compare speed. Between levels activations are contiguous
``[batch, *grid, channels]``: a Transformer level sees them as tokens and a ResBlock level as
channels-last images, both without a copy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-6


class FiLM(nn.Module):
    """x · (1 + scale) + shift; takes the embedding after its swish."""

    def __init__(self, emb_channels: int, channels: int):
        super().__init__()
        self.linear = nn.Linear(emb_channels, 2 * channels)

    def forward(self, x: Tensor, emb: Tensor, channel_axis: int) -> Tensor:
        shape = [len(x)] + [1] * (x.ndim - 1)
        shape[channel_axis] = -1
        scale, shift = (part.reshape(shape) for part in self.linear(emb).chunk(2, dim=-1))
        return torch.addcmul(shift, x, 1 + scale)


class GroupNorm(nn.Module):
    """On ``[b, c, *grid]``, which stays in its channels-last memory format.

    torch's own kernels do not serve here: the one for channels-last images on CPUs takes variances
    as E[x²] − E[x]² and is off by 3e-4 where the mean is five deviations from zero; those on
    GPUs rearrange the image to channels-first.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.groups = math.gcd(32, channels)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def _of_groups(self, means: Tensor) -> Tensor:
        """Means of channels to the mean of each one's group; ``[b, 1, c]``."""
        grouped = means.unflatten(-1, (self.groups, -1))
        return grouped.mean(-1, keepdim=True).expand_as(grouped).flatten(-2)

    def forward(self, x: Tensor) -> Tensor:
        h = x.movedim(1, -1).flatten(1, -2).to(torch.promote_types(x.dtype, torch.float32))
        h = h - self._of_groups(h.mean(1, keepdim=True))
        variance = self._of_groups(h.square().mean(1, keepdim=True))
        h = torch.addcmul(self.bias, h, torch.rsqrt(variance + EPSILON) * self.weight)
        return h.unflatten(1, x.shape[2:]).movedim(-1, 1)


class ResBlock(nn.Module):
    """On ``[b, c, *grid]`` in a channels-last memory format."""

    def __init__(self, channels: int, emb_channels: int, dropout: float, axes: int):
        super().__init__()
        conv, layout = {
            2: (nn.Conv2d, torch.channels_last),
            3: (nn.Conv3d, torch.channels_last_3d),
        }[axes]
        self.norm_in = GroupNorm(channels)
        self.conv_in = conv(channels, channels, 3, padding=1).to(memory_format=layout)
        self.norm_out = GroupNorm(channels)
        self.film = FiLM(emb_channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = conv(channels, channels, 3, padding=1).to(memory_format=layout)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv_in(F.silu(self.norm_in(x)))
        h = F.silu(self.film(self.norm_out(h), emb, 1))
        return x + self.conv_out(self.dropout(h))


def rms_norm(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    """With the scale in the dtype of ``x``, which the fused kernel asks for."""
    return F.rms_norm(x, norm.weight.shape, norm.weight.to(x.dtype), norm.eps)


def rotary_angles(grid: tuple[int, ...], head_size: int) -> Tensor:
    """Angle of every pair of channels at every position: ``[positions, head_size / 2]``."""
    pairs, parts = head_size // 2, []
    places = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    for axis, place in enumerate(places):
        count = (axis + 1) * pairs // len(grid) - axis * pairs // len(grid)
        frequencies = 10000.0 ** -(torch.arange(count, dtype=torch.float64) / max(count, 1))
        parts.append(place.reshape(-1, 1) * frequencies)
    return torch.cat(parts, dim=1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + head_size / 2) of ``x`` ``[b, n, heads, head_size]``."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class TransformerBlock(nn.Module):
    """On tokens ``[b, n, c]``."""

    def __init__(self, config: Any, channels: int, dropout: float):
        super().__init__()
        self.order = config.order
        self.head_size = config.head_size or channels // config.heads
        self.heads = channels // self.head_size
        if config.film in ("both", "attention"):
            self.film_attention = FiLM(config.emb_channels, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.norm_q = nn.RMSNorm(self.head_size, eps=EPSILON)
        self.norm_k = nn.RMSNorm(self.head_size, eps=EPSILON)
        if config.condition.text is not None:
            self.text = nn.Linear(config.text_channels, 2 * channels)
        self.attention_out = nn.Linear(channels, channels)
        if config.film in ("both", "mlp"):
            self.film_mlp = FiLM(config.emb_channels, channels)
        self.mlp_in = nn.Linear(channels, 4 * channels)
        self.dropout = nn.Dropout(dropout)
        self.mlp_out = nn.Linear(4 * channels, channels)

    def _norm(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=EPSILON)

    def _attention(
        self,
        h: Tensor,
        emb: Tensor,
        rotation: tuple[Tensor, Tensor] | None,
        text: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        if hasattr(self, "film_attention"):
            h = self.film_attention(h, emb, -1)
        q, k, v = self.qkv(h).unflatten(-1, (3, self.heads, self.head_size)).unbind(2)
        q, k = rms_norm(self.norm_q, q), rms_norm(self.norm_k, k)
        if rotation is not None:
            q, k = rotate(q, *rotation), rotate(k, *rotation)
        if text is not None:
            kv = self.text(text).unflatten(-1, (2, self.heads, self.head_size))
            k_text, v_text = kv.unbind(2)
            k = torch.cat([k, rms_norm(self.norm_k, k_text)], dim=1)
            v = torch.cat([v, v_text], dim=1)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.attention_out(out.transpose(1, 2).flatten(2))

    def _mlp(self, h: Tensor, emb: Tensor) -> Tensor:
        if hasattr(self, "film_mlp"):
            h = self.film_mlp(h, emb, -1)
        return self.mlp_out(self.dropout(F.gelu(self.mlp_in(h), approximate="tanh")))

    def forward(
        self,
        x: Tensor,
        emb: Tensor,
        rotation: tuple[Tensor, Tensor] | None = None,
        text: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        if self.order == "parallel":
            h = self._norm(x)
            return x + self._attention(h, emb, rotation, text, mask) + self._mlp(h, emb)
        if self.order == "mlp_first":
            x = x + self._mlp(self._norm(x), emb)
            return x + self._attention(self._norm(x), emb, rotation, text, mask)
        x = x + self._attention(self._norm(x), emb, rotation, text, mask)
        return x + self._mlp(self._norm(x), emb)


class ResLevel(nn.Module):
    def __init__(self, config: Any, index: int, depth: int, grid: tuple[int, ...]):
        super().__init__()
        channels, dropout = config.channels[index], config.dropout[index]
        self.blocks = nn.ModuleList(
            ResBlock(channels, config.emb_channels, dropout, len(grid)) for _ in range(depth)
        )

    def forward(self, x: Tensor, emb: Tensor, text: Tensor | None, mask: Tensor | None) -> Tensor:
        x = x.movedim(-1, 1)
        for block in self.blocks:
            x = block(x, emb)
        return x.movedim(1, -1)


class TransformerLevel(nn.Module):
    def __init__(self, config: Any, index: int, depth: int, grid: tuple[int, ...]):
        super().__init__()
        channels, dropout = config.channels[index], config.dropout[index]
        self.grid, self.rope = grid, config.position == "rope"
        if depth and not self.rope:
            self.position = nn.Parameter(0.02 * torch.randn(*grid, channels))
        if self.rope:
            head_size = config.head_size or channels // config.heads
            angles = rotary_angles(grid, head_size).unsqueeze(1)
            self.register_buffer("cos", angles.cos().float(), persistent=False)
            self.register_buffer("sin", angles.sin().float(), persistent=False)
        self.blocks = nn.ModuleList(
            TransformerBlock(config, channels, dropout) for _ in range(depth)
        )

    def forward(self, x: Tensor, emb: Tensor, text: Tensor | None, mask: Tensor | None) -> Tensor:
        if not len(self.blocks):
            return x
        if not self.rope:
            x = x + self.position.to(x.dtype)
        x = x.flatten(1, -2)
        if mask is not None:
            mask = F.pad(mask, (x.shape[1], 0), value=True)[:, None, None, :]
        rotation = (self.cos, self.sin) if self.rope else None
        for block in self.blocks:
            x = block(x, emb, rotation, text, mask)
        return x.unflatten(1, self.grid)


def level(config: Any, index: int, depth: int, grid: tuple[int, ...]) -> nn.Module:
    kind = {"res": ResLevel, "transformer": TransformerLevel}[config.blocks[index]]
    return kind(config, index, depth, grid)


class Down(nn.Module):
    def __init__(self, fine: int, coarse: int, frames: int):
        super().__init__()
        self.frames = frames
        self.project = nn.Linear(fine, coarse)

    def forward(self, x: Tensor) -> Tensor:
        lead = x.shape[:-3]
        x = F.avg_pool2d(x.flatten(0, -4).movedim(-1, 1), 2).movedim(1, -1).unflatten(0, lead)
        if self.frames > 1:
            x = x.unflatten(1, (-1, self.frames)).mean(2)
        return self.project(x)


class Up(nn.Module):
    def __init__(self, coarse: int, fine: int, strides: tuple[int, ...]):
        super().__init__()
        self.strides = strides
        self.project = nn.Linear(coarse, fine, bias=False)

    def forward(self, x: Tensor, pos: Tensor) -> Tensor:
        """Up(x) + pos, by broadcasting: the enlarged image is never written to memory."""
        x = self.project(x)
        sizes = x.shape[1:-1]
        cells = itertools.chain.from_iterable(zip(sizes, self.strides, strict=True))
        points = itertools.chain.from_iterable((size, 1) for size in sizes)
        fine = pos.reshape(len(x), *cells, x.shape[-1])
        return (fine + x.reshape(len(x), *points, x.shape[-1])).reshape(pos.shape)


class PatchIn(nn.Linear):
    """The convolution whose stride is its kernel: a linear map of each patch."""

    def __init__(self, size: int, colours: int, channels: int):
        super().__init__(size * size * colours, channels)
        self.size = size

    def forward(self, z: Tensor) -> Tensor:
        *lead, height, width, colours = z.shape
        size = self.size
        z = z.reshape(*lead, height // size, size, width // size, size, colours)
        return super().forward(z.transpose(-4, -3).flatten(-3))


class PatchOut(nn.Module):
    """The transposed convolution whose stride is its kernel: each position paints its patch."""

    def __init__(self, size: int, channels: int, colours: int):
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(torch.randn(size * size * colours, channels) * channels**-0.5)
        self.bias = nn.Parameter(torch.zeros(colours))

    def forward(self, x: Tensor) -> Tensor:
        *lead, height, width, _ = x.shape
        size = self.size
        x = F.linear(x, self.weight, self.bias.repeat(size * size))
        x = x.unflatten(-1, (size, size, -1)).transpose(-4, -3)
        return x.reshape(*lead, height * size, width * size, -1)


class Conditioning(nn.Module):
    def __init__(self, num_classes: int, channels: int):
        super().__init__()
        frequencies = torch.linspace(0, math.log(100), channels // 2, dtype=torch.float64).exp()
        self.register_buffer("frequencies", frequencies.float(), persistent=False)
        self.linear_in = nn.Linear(channels, channels)
        self.linear_out = nn.Linear(channels, channels)
        self.classes = nn.Embedding(num_classes + 1, channels)

    def forward(self, logsnr: Tensor, labels: Tensor) -> Tensor:
        angles = (logsnr / 20)[:, None] * self.frequencies
        features = torch.cat([angles.sin(), angles.cos()], dim=-1)
        return self.linear_out(F.silu(self.linear_in(features))) + self.classes(labels)


class TextInput(nn.Module):
    """What blocks look at, and the mean as a part of the embedding."""

    def __init__(self, config: Any):
        super().__init__()
        kind, width, emb = config.condition.text, config.text_channels, config.emb_channels
        self.linear = nn.Linear(kind.channels, width)
        if config.text_positions:
            self.positions = nn.Parameter(0.02 * torch.randn(kind.tokens, width))
        if config.text_pooled:
            hidden = {"linear_in": nn.Linear(width, emb), "linear_out": nn.Linear(emb, emb)}
            self.pooled = nn.ModuleDict(hidden)

    def forward(self, text: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | float]:
        h = self.linear(text)
        there = torch.ones(h.shape[:2], device=h.device) if mask is None else mask.float()
        mean = (h.float() * there[..., None]).sum(1) / there.sum(1, keepdim=True)
        pooled: Tensor | float = 0.0
        if hasattr(self, "pooled"):
            normed = F.layer_norm(mean, mean.shape[-1:], eps=EPSILON)
            pooled = self.pooled["linear_out"](F.silu(self.pooled["linear_in"](normed)))
        return (h + self.positions.to(h.dtype) if hasattr(self, "positions") else h), pooled


def _as_is(value: Tensor) -> Tensor:
    return value


def _conv(kernel: Tensor) -> Tensor:
    return kernel.movedim((-1, -2), (0, 1))


def _patch_in(kernel: Tensor) -> Tensor:
    return kernel.flatten(0, -2).T


def _patch_out(kernel: Tensor) -> Tensor:
    """Flax runs the transposed convolution's kernel backwards along rows and columns."""
    return kernel.flip(-4, -3).transpose(-2, -1).flatten(0, -2)


_FROM_FLAX = {
    nn.Linear: {"kernel": ("weight", torch.t), "bias": ("bias", _as_is)},
    nn.Conv2d: {"kernel": ("weight", _conv), "bias": ("bias", _as_is)},
    nn.Conv3d: {"kernel": ("weight", _conv), "bias": ("bias", _as_is)},
    GroupNorm: {"scale": ("weight", _as_is), "bias": ("bias", _as_is)},
    nn.RMSNorm: {"scale": ("weight", _as_is)},
    nn.Embedding: {"embedding": ("weight", _as_is)},
    PatchIn: {"kernel": ("weight", _patch_in), "bias": ("bias", _as_is)},
    PatchOut: {"kernel": ("weight", _patch_out), "bias": ("bias", _as_is)},
    TransformerLevel: {"position": ("position", _as_is)},
    TextInput: {"positions": ("positions", _as_is)},
}
"""Type of module → our name of a weight → name in the module, and how to lay it out."""


def from_flax(module: nn.Module, name: str, value: Tensor) -> Tensor:
    """One weight of ``module`` in torch's layout."""
    return _FROM_FLAX[type(module)][name][1](value)


class ResidualUViT(nn.Module):
    """Takes and gives channels-last images ``[b, (f,) h, w, c]``; see :meth:`forward`.

    ``train()`` turns dropout on, ``eval()`` off. With ``compute_dtype`` "bfloat16" the parameters
    stay float32 and the forward pass runs under autocast.
    """

    def __init__(self, config: Any):
        super().__init__()
        *frames, height, width, colours = config.image_shape
        size, channels, last = config.patch_size, config.channels, len(config.channels) - 1
        strides = [(*([s] if frames else []), 2, 2) for s in config.temporal_strides[:last]]
        grids = [(*frames, height // size, width // size)]
        for stride in strides:
            grids.append(tuple(n // s for n, s in zip(grids[-1], stride, strict=True)))
        self.text = None if config.condition.text is None else TextInput(config)
        self.compute_dtype = getattr(torch, config.compute_dtype)

        self.conditioning = Conditioning(config.condition.label.classes, config.emb_channels)
        self.patch_in = PatchIn(size, colours, channels[0])
        self.encoder = nn.ModuleList(
            level(config, i, config.encoder_depth[i], grids[i]) for i in range(last)
        )
        self.down = nn.ModuleList(
            Down(channels[i], channels[i + 1], strides[i][0] if frames else 1) for i in range(last)
        )
        self.middle = level(config, last, config.mid_depth, grids[last])
        self.up = nn.ModuleList(Up(channels[i + 1], channels[i], strides[i]) for i in range(last))
        self.decoder = nn.ModuleList(
            level(config, i, config.decoder_depth[i], grids[i]) for i in range(last)
        )
        self.norm_out = GroupNorm(channels[0])
        self.patch_out = PatchOut(size, channels[0], colours)

    def _weights(self) -> Iterator[tuple[str, nn.Parameter, Any]]:
        for path, module in self.named_modules():
            for name, (attribute, layout) in _FROM_FLAX.get(type(module), {}).items():
                parameter = getattr(module, attribute, None)
                if parameter is not None:
                    yield f"{path}.{name}".replace(".", "/"), parameter, layout

    @torch.no_grad()
    def load_flat(self, weights: Mapping[str, np.ndarray | Tensor]) -> None:
        """Copy every weight from its flat name, in flax's layout.

        Raises:
            KeyError: a weight is missing, or one is left over.
            ValueError: a weight has another shape.
        """
        mine = {name: (parameter, layout) for name, parameter, layout in self._weights()}
        missing, left_over = sorted(mine.keys() - weights), sorted(weights.keys() - mine)
        if missing or left_over:
            raise KeyError(f"missing: {missing}; left over: {left_over}")
        for name, (parameter, layout) in mine.items():
            value = weights[name]
            if not isinstance(value, Tensor):
                value = torch.from_numpy(np.array(value))
            arranged = layout(value)
            if arranged.shape != parameter.shape:
                fitting, found = tuple(parameter.shape), tuple(value.shape)
                raise ValueError(f"{name} {found} does not fit the twin's {fitting}")
            parameter.copy_(arranged)

    def forward(
        self,
        z: Tensor,
        logsnr: Tensor,
        labels: Tensor,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        """The network's output for noisy images.

        Args:
            z: ``[b, h, w, c]``, or ``[b, f, h, w, c]`` for video.
            logsnr: ``[b]``.
            labels: ``[b]``; the number of classes is the null class.
            text: vectors of the encoder, ``[b, n, d]``, if the configuration has them.
            text_mask: ``[b, n]``, true where there is a token; without it, everywhere.
        """
        if (text is None) != (self.text is None):
            raise ValueError(f"{self.text=}, but text is {type(text).__name__}")
        reduced = self.compute_dtype != torch.float32
        with torch.autocast(z.device.type, torch.bfloat16, enabled=reduced):
            # Every FiLM begins with the embedding's swish: once is enough.
            emb, pooled = self.conditioning(logsnr, labels), 0.0
            if self.text is not None and text is not None:
                text, pooled = self.text(text, text_mask)
            emb = F.silu(emb + pooled)
            h, skips = self.patch_in(z), []
            for blocks, down in zip(self.encoder, self.down, strict=True):
                pos = blocks(h, emb, text, text_mask)
                h = down(pos)
                skips.append((pos, h))
            h = self.middle(h, emb, text, text_mask)
            for blocks, up in zip(reversed(self.decoder), reversed(self.up), strict=True):
                pos, neg = skips.pop()
                h = blocks(up(h - neg, pos), emb, text, text_mask)
            h = F.silu(self.norm_out(h.movedim(-1, 1))).movedim(1, -1)
            return self.patch_out(h).to(z.dtype)
