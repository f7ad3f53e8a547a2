"""The Residual U-ViT of SiD2 (Simpler Diffusion) in one file that needs only PyTorch.

Between levels activations are contiguous ``[batch, *grid, channels]``: a Transformer level sees
them as tokens and a ResBlock level as channels-last images, both without a copy.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-6
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"


class FiLM(nn.Module):
    """x · (1 + scale) + shift; takes the embedding after its swish."""

    def __init__(self, emb_channels: int, channels: int):
        super().__init__()
        self.linear = nn.Linear(emb_channels, 2 * channels)

    def forward(self, x: Tensor, emb: Tensor, channel_axis: int) -> Tensor:
        """Modulate ``x`` by ``emb`` ``[b, e]``."""
        shape = [x.shape[0]] + [1] * (x.ndim - 1)
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
        """Normalise ``x`` in float32 (float64 stays)."""
        h = x.movedim(1, -1).flatten(1, -2).to(torch.promote_types(x.dtype, torch.float32))
        h = h - self._of_groups(h.mean(1, keepdim=True))
        variance = self._of_groups(h.square().mean(1, keepdim=True))
        h = torch.addcmul(self.bias, h, torch.rsqrt(variance + EPSILON) * self.weight)
        return h.unflatten(1, x.shape[2:]).movedim(-1, 1)


class ResBlock(nn.Module):
    """On ``[b, c, *grid]`` in a channels-last memory format."""

    def __init__(self, channels: int, emb_channels: int, dropout: float, axes: int):
        super().__init__()
        conv: Any = nn.Conv2d if axes == 2 else nn.Conv3d
        layout = torch.channels_last if axes == 2 else torch.channels_last_3d
        self.norm_in = GroupNorm(channels)
        self.conv_in = conv(channels, channels, 3, padding=1).to(memory_format=layout)
        self.norm_out = GroupNorm(channels)
        self.film = FiLM(emb_channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = conv(channels, channels, 3, padding=1).to(memory_format=layout)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Apply the block."""
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
            self.text = nn.Linear(config.text_channels or config.emb_channels, 2 * channels)
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
        """Apply the block."""
        if self.order == "parallel":
            h = self._norm(x)
            return x + self._attention(h, emb, rotation, text, mask) + self._mlp(h, emb)
        if self.order == "mlp_first":
            x = x + self._mlp(self._norm(x), emb)
            return x + self._attention(self._norm(x), emb, rotation, text, mask)
        x = x + self._attention(self._norm(x), emb, rotation, text, mask)
        return x + self._mlp(self._norm(x), emb)


class Level(nn.Module):
    """A run of equal blocks at one resolution, on ``[b, *grid, c]``."""

    def __init__(self, config: Any, index: int, depth: int, grid: tuple[int, ...]):
        super().__init__()
        channels, dropout = config.channels[index], config.dropout[index]
        self.grid, self.transformer = grid, config.blocks[index] == "transformer"
        self.rope = self.transformer and config.position == "rope"
        if self.transformer and depth and not self.rope:
            self.position = nn.Parameter(0.02 * torch.randn(*grid, channels))
        if self.rope:
            head_size = config.head_size or channels // config.heads
            angles = rotary_angles(grid, head_size).unsqueeze(1)
            self.register_buffer("cos", angles.cos().float(), persistent=False)
            self.register_buffer("sin", angles.sin().float(), persistent=False)
        self.blocks = nn.ModuleList(
            TransformerBlock(config, channels, dropout)
            if self.transformer
            else ResBlock(channels, config.emb_channels, dropout, len(grid))
            for _ in range(depth)
        )

    def forward(self, x: Tensor, emb: Tensor, text: Tensor | None, mask: Tensor | None) -> Tensor:
        """Apply the blocks in order."""
        if not len(self.blocks):
            return x
        if not self.transformer:
            x = x.movedim(-1, 1)
            for block in self.blocks:
                x = block(x, emb)
            return x.movedim(1, -1)
        if not self.rope:
            x = x + self.position.to(x.dtype)
        x = x.flatten(1, -2)
        if mask is not None:
            mask = F.pad(mask, (x.shape[1], 0), value=True)[:, None, None, :]
        rotation = (self.cos, self.sin) if self.rope else None
        for block in self.blocks:
            x = block(x, emb, rotation, text, mask)
        return x.unflatten(1, self.grid)


class Down(nn.Module):
    """Mean over 2×2 (and over frames that go), then a projection to the next level's width."""

    def __init__(self, fine: int, coarse: int, frames: int):
        super().__init__()
        self.frames = frames
        self.project = nn.Linear(fine, coarse)

    def forward(self, x: Tensor) -> Tensor:
        """``[b, (f,) h, w, c]`` to ``[b, (f,) h/2, w/2, c_out]``."""
        lead = x.shape[:-3]
        x = F.avg_pool2d(x.flatten(0, -4).movedim(-1, 1), 2).movedim(1, -1).unflatten(0, lead)
        if self.frames > 1:
            x = x.unflatten(1, (-1, self.frames)).mean(2)
        return self.project(x)


class Up(nn.Module):
    """A projection without bias to the finer level's width, then nearest ×2."""

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
        fine = pos.reshape(x.shape[0], *cells, x.shape[-1])
        return (fine + x.reshape(x.shape[0], *points, x.shape[-1])).reshape(pos.shape)


class PatchIn(nn.Linear):
    """The convolution whose stride is its kernel: a linear map of each patch."""

    def __init__(self, size: int, colours: int, channels: int):
        super().__init__(size * size * colours, channels)
        self.size = size

    def forward(self, z: Tensor) -> Tensor:
        """``[b, (f,) h, w, c]`` to ``[b, (f,) h/p, w/p, c_out]``."""
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
        """``[b, (f,) h, w, c]`` to ``[b, (f,) p h, p w, colours]``."""
        *lead, height, width, _ = x.shape
        size = self.size
        x = F.linear(x, self.weight, self.bias.repeat(size * size))
        x = x.unflatten(-1, (size, size, -1)).transpose(-4, -3)
        return x.reshape(*lead, height * size, width * size, -1)


class Conditioning(nn.Module):
    """MLP(features(log-SNR)) + a vector of the class, if there are classes."""

    frequencies: Tensor

    def __init__(self, num_classes: int | None, channels: int):
        super().__init__()
        frequencies = torch.linspace(0, math.log(100), channels // 2, dtype=torch.float64).exp()
        self.register_buffer("frequencies", frequencies.float(), persistent=False)
        self.linear_in = nn.Linear(channels, channels)
        self.linear_out = nn.Linear(channels, channels)
        if num_classes is not None:
            self.classes = nn.Embedding(num_classes + 1, channels)

    def forward(self, logsnr: Tensor, labels: Tensor | None) -> Tensor:
        """The vector ``[b, e]`` of noise level and class."""
        angles = (logsnr / 20)[:, None] * self.frequencies
        features = torch.cat([angles.sin(), angles.cos()], dim=-1)
        h = self.linear_out(F.silu(self.linear_in(features)))
        return h if labels is None else h + self.classes(labels)


class TextBlock(nn.Module):
    """h + attention(norm(h)), then h + mlp(norm(h)), on ``[b, n, c]``."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(channels, eps=EPSILON)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.attention_out = nn.Linear(channels, channels)
        self.norm_mlp = nn.LayerNorm(channels, eps=EPSILON)
        self.mlp_in = nn.Linear(channels, 4 * channels)
        self.mlp_out = nn.Linear(4 * channels, channels)

    def forward(self, h: Tensor, mask: Tensor | None) -> Tensor:
        """Apply the block; tokens look at those of the mask."""
        qkv = self.qkv(self.norm_attention(h)).unflatten(-1, (3, self.heads, -1))
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
        allowed = None if mask is None else mask[:, None, None, :]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        h = h + self.attention_out(out.transpose(1, 2).flatten(2))
        return h + self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(h)), approximate="tanh"))


class TextEncoder(nn.Module):
    """norm(blocks(embedding[id] + position)): ids ``[b, n]`` to vectors ``[b, n, c]``."""

    def __init__(self, kind: Any):
        super().__init__()
        self.embedding = nn.Parameter(0.02 * torch.randn(kind.vocabulary, kind.channels))
        self.position = nn.Parameter(0.02 * torch.randn(kind.tokens, kind.channels))
        self.blocks = nn.ModuleList(TextBlock(kind.channels, kind.heads) for _ in range(kind.depth))
        self.norm = nn.LayerNorm(kind.channels, eps=EPSILON)

    def forward(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """The vectors; zero where the mask is false."""
        h = F.embedding(ids, self.embedding) + self.position[: ids.shape[1]]
        for block in self.blocks:
            h = block(h, mask)
        h = self.norm(h)
        return h if mask is None else torch.where(mask[..., None], h, 0.0)


class TextInput(nn.Module):
    """From a caption's tokens to what blocks look at, and the mean as a part of the embedding."""

    def __init__(self, config: Any):
        super().__init__()
        kind, emb = config.condition.text, config.emb_channels
        width = config.text_channels or emb
        self.encoder = TextEncoder(kind) if kind.dtype == "int32" else None
        self.linear = nn.Linear(kind.channels, width)
        if config.text_positions:
            self.positions = nn.Parameter(0.02 * torch.randn(kind.tokens, width))
        if config.text_pooled:
            linear = {"linear_in": nn.Linear(width, emb), "linear_out": nn.Linear(emb, emb)}
            self.pooled = nn.ModuleDict(linear)

    def forward(self, text: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | float]:
        """Vectors ``[b, n, width]``, and their mean as an embedding ``[b, e]`` (or 0.0)."""
        h = self.linear(text if self.encoder is None else self.encoder(text, mask))
        there = torch.ones(h.shape[:2], device=h.device) if mask is None else mask.float()
        mean = (h.float() * there[..., None]).sum(1) / there.sum(1, keepdim=True)
        pooled: Tensor | float = 0.0
        if hasattr(self, "pooled"):
            normed = F.layer_norm(mean, mean.shape[-1:], eps=EPSILON)
            pooled = self.pooled["linear_out"](F.silu(self.pooled["linear_in"](normed)))
        return (h + self.positions.to(h.dtype) if hasattr(self, "positions") else h), pooled


def after(given: Tensor, there: Tensor, z: Tensor) -> Tensor:
    """Clips ``[b, k + f, h, w, c + 1]``: the given frames in [-1, 1], then z, and the mask.

    Given frames that are not there are 0, as is their mask.
    """
    present = there.to(z.dtype).reshape(-1, 1, 1, 1, 1)
    frames = (given.to(z.dtype) / 127.5 - 1.0) * present
    clip = torch.cat([frames, z], dim=1)
    mask = torch.cat([present.expand_as(frames[..., :1]), torch.zeros_like(z[..., :1])], dim=1)
    return torch.cat([clip, mask], dim=-1)


class ResidualUViT(nn.Module):
    """Takes and gives channels-last images ``[b, (f,) h, w, c]``; see :meth:`forward`.

    With ``compute_dtype`` "bfloat16" parameters stay float32, and ``forward`` runs under autocast.
    """

    def __init__(self, config: Any):
        super().__init__()
        self.config, condition = config, config.condition
        self.given_frames = 0 if condition.given is None else condition.given.shape[0]
        *frames, height, width, colours = config.image_shape
        frames = [self.given_frames + count for count in frames]
        size, channels, last = config.patch_size, config.channels, len(config.channels) - 1
        strides = [(*([s] if frames else []), 2, 2) for s in config.temporal_strides[:last]]
        grids = [(*frames, height // size, width // size)]
        for stride in strides:
            grids.append(tuple(n // s for n, s in zip(grids[-1], stride, strict=True)))
        self.text = None if condition.text is None else TextInput(config)
        self.compute_dtype = getattr(torch, config.compute_dtype)

        classes = None if condition.label is None else condition.label.classes
        self.conditioning = Conditioning(classes, config.emb_channels)
        self.patch_in = PatchIn(size, colours + (self.given_frames > 0), channels[0])
        self.encoder = nn.ModuleList(
            Level(config, i, config.encoder_depth[i], grids[i]) for i in range(last)
        )
        self.down = nn.ModuleList(
            Down(channels[i], channels[i + 1], strides[i][0] if frames else 1) for i in range(last)
        )
        self.middle = Level(config, last, config.mid_depth, grids[last])
        self.up = nn.ModuleList(Up(channels[i + 1], channels[i], strides[i]) for i in range(last))
        self.decoder = nn.ModuleList(
            Level(config, i, config.decoder_depth[i], grids[i]) for i in range(last)
        )
        self.norm_out = GroupNorm(channels[0])
        self.patch_out = PatchOut(size, channels[0], colours)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **_: Any) -> ResidualUViT:
        """The trained network of a folder, ready to draw; in float32 whatever the options are."""
        from safetensors.torch import load_file

        stored = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))
        kinds = {"label": None, "text": None, "given": None}
        kinds |= {name: SimpleNamespace(**one) for name, one in stored["condition"].items()}
        fields = stored["network"] | {"compute_dtype": "float32"}
        model = cls(SimpleNamespace(**fields, condition=SimpleNamespace(**kinds)))
        model.sampling = stored["sampling"]
        model.load_state_dict(load_file(Path(folder) / WEIGHTS))
        return model.eval()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.norm_out.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.norm_out.weight.dtype

    def forward(
        self,
        z: Tensor,
        logsnr: Tensor,
        labels: Tensor | None = None,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        given: Tensor | None = None,
        there: Tensor | None = None,
    ) -> Tensor:
        """The network's output for noisy examples, of z's shape.

        Args:
            z: ``[b, h, w, c]``, or ``[b, f, h, w, c]`` for video.
            logsnr: ``[b]``.
            labels: ``[b]``; the number of classes is the null class.
            text: ids of the learned encoder ``[b, n]``, or vectors of a frozen one ``[b, n, d]``.
            text_mask: ``[b, n]``, true where there is a token; without it, everywhere.
            given: the frames before z, raw values 0 to 255, ``[b, k, h, w, c]``.
            there: ``[b]``, whether an example has them.
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
            x = z if given is None or there is None else after(given, there, z)
            h, skips = self.patch_in(x), []
            for blocks, down in zip(self.encoder, self.down, strict=True):
                pos = blocks(h, emb, text, text_mask)
                h = down(pos)
                skips.append((pos, h))
            h = self.middle(h, emb, text, text_mask)
            for blocks, up in zip(reversed(self.decoder), reversed(self.up), strict=True):
                pos, neg = skips.pop()
                h = blocks(up(h - neg, pos), emb, text, text_mask)
            h = F.silu(self.norm_out(h.movedim(-1, 1))).movedim(1, -1)
            if self.given_frames:
                h = h[:, self.given_frames :]
            return self.patch_out(h).to(z.dtype)
