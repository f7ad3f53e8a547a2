"""Configurations that the network and its twin in PyTorch are compared in, and how to run both."""

import numpy as np
import torch

from sid2core.conditioning import ConditionSpec
from sid2core.exporting import names
from sid2core.exporting.files.model import ResidualUViT
from tests.models import configs

THREE_LEVELS = {
    "image_shape": (16, 8, 3),
    "patch_size": 1,
    "channels": (4, 36, 12),
    "blocks": ("res", "res", "transformer"),
    "encoder_depth": (2, 1),
    "decoder_depth": (2, 1),
    "mid_depth": 2,
    "dropout": (0.0, 0.1, 0.2),
    "temporal_strides": (1, 1),
}
TWO_TRANSFORMERS = THREE_LEVELS | {"blocks": ("res", "transformer", "transformer")}
TOKENS = 5
TEXT = {
    "condition": ConditionSpec.of_classes(4).with_text(configs.text_kind(TOKENS)),
    "text_channels": 7,
}
"""The width of the encoder's vectors and of the tokens that blocks look at is the same."""
VIDEO = TWO_TRANSFORMERS | {"image_shape": (4, 8, 16, 3), "patch_size": 2}
CONFIGS = {
    "tiny, patch 2": {},
    "symmetric": THREE_LEVELS,
    "asymmetric": TWO_TRANSFORMERS | {"encoder_depth": (1, 2), "decoder_depth": (3, 1)},
    "levels without blocks": TWO_TRANSFORMERS | {"encoder_depth": (0, 0), "mid_depth": 0},
    "patch 4": THREE_LEVELS | {"image_shape": (32, 16, 1), "patch_size": 4},
    "one Res level": {
        "channels": (12,),
        "blocks": ("res",),
        "encoder_depth": (),
        "decoder_depth": (),
        "mid_depth": 2,
        "dropout": (0.1,),
        "temporal_strides": (),
    },
    "one Transformer level": {
        "channels": (12,),
        "blocks": ("transformer",),
        "encoder_depth": (),
        "decoder_depth": (),
        "mid_depth": 2,
        "dropout": (0.1,),
        "temporal_strides": (),
    },
    "video": VIDEO,
    "video, frames halved once": VIDEO | {"temporal_strides": (1, 2)},
    "video, frames halved twice": VIDEO | {"temporal_strides": (2, 2), "patch_size": 1},
    "heads": TWO_TRANSFORMERS | {"head_size": None, "heads": 3},
    "rope": TWO_TRANSFORMERS | {"position": "rope"},
    "rope, a head's pairs do not divide": TWO_TRANSFORMERS | {"position": "rope", "head_size": 6},
    "rope, wide heads": TWO_TRANSFORMERS | {"position": "rope", "head_size": None, "heads": 1},
    "rope, video": VIDEO | {"position": "rope", "temporal_strides": (1, 2), "head_size": 4},
    "film attention": TWO_TRANSFORMERS | {"film": "attention"},
    "film mlp": TWO_TRANSFORMERS | {"film": "mlp"},
    "mlp first": TWO_TRANSFORMERS | {"order": "mlp_first"},
    "parallel": TWO_TRANSFORMERS | {"order": "parallel"},
    "parallel, film mlp": TWO_TRANSFORMERS | {"order": "parallel", "film": "mlp"},
    "text": TWO_TRANSFORMERS | TEXT,
    "text, no positions": TWO_TRANSFORMERS | TEXT | {"text_positions": False},
    "text, not pooled": TWO_TRANSFORMERS | TEXT | {"text_pooled": False},
    "everything": VIDEO
    | {
        "temporal_strides": (2, 1),
        "head_size": None,
        "heads": 2,
        "position": "rope",
        "film": "mlp",
        "order": "parallel",
    }
    | TEXT,
}


def text_inputs(config, batch=3, seed=1):
    """Tokens and their mask, or neither; the last caption has one token."""
    if config.condition.text is None:
        return {}
    draws = np.random.default_rng(seed)
    text = draws.normal(size=(batch, TOKENS, config.text_channels)).astype(np.float32)
    present = np.arange(TOKENS) < np.linspace(TOKENS, 1, batch).astype(int)[:, None]
    return {"text": text, "text_mask": present}


def as_torch(array):
    return torch.from_numpy(np.array(array))


def twin_of(config, weights):
    twin = ResidualUViT(config).eval()
    arrays = names.all_to_torch(weights)
    twin.load_state_dict({name: as_torch(value) for name, value in arrays.items()})
    return twin


def run(twin, z, logsnr, condition, **text):
    inputs = z, logsnr, condition.label
    with torch.no_grad():
        out = twin(*map(as_torch, inputs), **{k: as_torch(v) for k, v in text.items()})
    return out.numpy()


def close(found, expected, tolerance=2e-5):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def shapes(config):
    """Flat names and shapes of the weights, from the description of the file format."""
    found = {}
    video, last = len(config.image_shape) == 4, len(config.channels) - 1
    emb, colours, size = config.emb_channels, config.image_shape[-1], config.patch_size
    grid = [*config.image_shape[:-3], *(n // size for n in config.image_shape[-3:-1])]

    def linear(name, n, m, bias=True):
        found[f"{name}/kernel"] = (n, m)
        if bias:
            found[f"{name}/bias"] = (m,)

    def conv(name, kernel, n, m):
        found[f"{name}/kernel"] = (*kernel, n, m)
        found[f"{name}/bias"] = (m,)

    def norm(name, n):
        found[f"{name}/scale"] = found[f"{name}/bias"] = (n,)

    def level(name, index, depth):
        c = config.channels[index]
        head_size = config.head_size or c // config.heads
        transformer = config.blocks[index] == "transformer"
        if transformer and depth and config.position == "learned":
            found[f"{name}/position"] = (*grid, c)
        for block in (f"{name}/blocks/{i}" for i in range(depth)):
            if transformer:
                for branch in ("attention", "mlp"):
                    if config.film in ("both", branch):
                        linear(f"{block}/film_{branch}/linear", emb, 2 * c)
                linear(f"{block}/qkv", c, 3 * c)
                found[f"{block}/norm_q/scale"] = found[f"{block}/norm_k/scale"] = (head_size,)
                if config.condition.text is not None:
                    linear(f"{block}/text", config.text_channels, 2 * c)
                linear(f"{block}/attention_out", c, c)
                linear(f"{block}/mlp_in", c, 4 * c)
                linear(f"{block}/mlp_out", 4 * c, c)
            else:
                for half in ("in", "out"):
                    norm(f"{block}/norm_{half}", c)
                    conv(f"{block}/conv_{half}", (3,) * len(grid), c, c)
                linear(f"{block}/film/linear", emb, 2 * c)

    linear("conditioning/linear_in", emb, emb)
    linear("conditioning/linear_out", emb, emb)
    found["conditioning/classes/embedding"] = (config.condition.label.classes + 1, emb)
    if config.condition.text is not None:
        width = config.text_channels
        linear("text/linear", config.condition.text.channels, width)
        if config.text_positions:
            found["text/positions"] = (TOKENS, width)
        if config.text_pooled:
            linear("text/pooled/linear_in", width, emb)
            linear("text/pooled/linear_out", emb, emb)
    patch = (1,) * video + (size, size)
    conv("patch_in", patch, colours, config.channels[0])
    norm("norm_out", config.channels[0])
    conv("patch_out", patch, config.channels[0], colours)
    for i in range(last):
        fine, coarse = config.channels[i : i + 2]
        level(f"encoder/{i}", i, config.encoder_depth[i])
        level(f"decoder/{i}", i, config.decoder_depth[i])
        linear(f"down/{i}/project", fine, coarse)
        linear(f"up/{i}/project", coarse, fine, bias=False)
        strides = (config.temporal_strides[i],) * video + (2, 2)
        grid = [n // s for n, s in zip(grid, strides, strict=True)]
    level("middle", last, config.mid_depth)
    return found


def random_weights(config, seed=5):
    draws = np.random.default_rng(seed)
    return {
        name: (draws.normal(0.0, 0.3, shape) + name.endswith("/scale")).astype(np.float32)
        for name, shape in sorted(shapes(config).items())
    }
