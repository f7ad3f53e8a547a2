"""A DINOv2 vision transformer in PyTorch, from arXiv 2304.07193, for comparison alone.

Its modules bear the names of Meta's files; :func:`hugging_face` gives its state those of the other.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Of heads of 64 channels."""

    def __init__(self, width):
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        heads = [one.unflatten(-1, (-1, 64)).transpose(1, 2) for one in self.qkv(x).chunk(3, -1)]
        return self.proj(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


class Scale(nn.Module):
    """One factor a channel."""

    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.gamma


class Perceptron(nn.Module):
    """Two layers with GELU between."""

    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and a perceptron, each with its norm before and its scale behind."""

    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.attn, self.mlp = Attention(width), Perceptron(width)
        self.ls1, self.ls2 = Scale(width), Scale(width)

    def forward(self, x):
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Embedding(nn.Module):
    """Patches of 14×14."""

    def __init__(self, width):
        super().__init__()
        self.proj = nn.Conv2d(3, width, 14, 14)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class DINOv2(nn.Module):
    """Normalised images [n, 3, 224, 224] to the class token after the last norm."""

    def __init__(self, width, depth, grid=37):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))  # in the files, without use here
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid**2, width))
        self.patch_embed = Embedding(width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def positions(self):
        """The embedding for 16×16 patches."""
        side = round((self.pos_embed.shape[1] - 1) ** 0.5)
        if side == 16:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
        smaller = F.interpolate(grid, scale_factor=(16 + 0.1) / side, mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], smaller.flatten(2).transpose(1, 2)], 1)

    def forward(self, x):
        patches = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], 1) + self.positions()
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]


def drawn(width=128, depth=2, grid=37, seed=0):
    """A model of random weights, of sizes that leave no part without a say.

    Its embeddings are as small as the real ones, so that the norms' epsilon shows.
    """
    generator = torch.Generator().manual_seed(seed)
    model = DINOv2(width, depth, grid).eval()
    with torch.no_grad():
        for name, one in model.named_parameters():
            size = 0.02 if name.startswith(("cls_token", "pos_embed", "patch_embed")) else 1
            if name.endswith("gamma") or "norm" in name and name.endswith("weight"):
                one.uniform_(0.5, 1.5, generator=generator)
            elif one.ndim in (2, 4):
                one.normal_(0, size * one[0].numel() ** -0.5, generator=generator)
            else:
                one.normal_(0, 0.3 if size == 1 else size, generator=generator)
    return model


def hugging_face(state):
    """The same tensors, query, key and value apart, under the names of transformers' Dinov2."""
    found = {}
    for name, tensor in state.items():
        if ".attn.qkv." in name:
            head, tail = name.replace("blocks", "encoder.layer").split(".attn.qkv.")
            for part, one in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                found[f"{head}.attention.attention.{part}.{tail}"] = one.clone()
        else:
            found[_other_name(name)] = tensor
    return found


def _other_name(name):
    top = {
        "cls_token": "embeddings.cls_token",
        "mask_token": "embeddings.mask_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
        "norm.weight": "layernorm.weight",
        "norm.bias": "layernorm.bias",
    }
    if name in top:
        return top[name]
    name = name.replace("blocks", "encoder.layer").replace("attn.proj", "attention.output.dense")
    return name.replace("ls1.gamma", "layer_scale1.lambda1").replace(
        "ls2.gamma", "layer_scale2.lambda1"
    )
