"""The network once more, from its formulas, in NumPy and float64: one image, no batch, no JAX.

Weights come as the flat dictionary of names that files hold; ``prefix`` picks a module's own.
"""

import math

import numpy as np


def scoped(weights, prefix):
    return {
        name.removeprefix(f"{prefix}/"): value
        for name, value in weights.items()
        if name.startswith(f"{prefix}/")
    }


def swish(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def standardised(x, axes):
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6)


def group_norm(x, w):
    height, width, channels = x.shape
    groups = max(n for n in range(1, 33) if channels % n == 0 and 32 % n == 0)
    parts = x.reshape(height, width, groups, channels // groups)
    return standardised(parts, (0, 1, 3)).reshape(x.shape) * w["scale"] + w["bias"]


def linear(x, w):
    return x @ w["kernel"] + w.get("bias", 0.0)


def conv3x3(x, w):
    height, width, _ = x.shape
    padded = np.pad(x, [(1, 1), (1, 1), (0, 0)])
    shifts = ((i, j) for i in range(3) for j in range(3))
    taps = (padded[i : i + height, j : j + width] @ w["kernel"][i, j] for i, j in shifts)
    return sum(taps) + w["bias"]


def film(x, emb, w):
    scale, shift = np.split(linear(swish(emb), scoped(w, "linear")), 2)
    return x * (1 + scale) + shift


def res_block(x, emb, w):
    h = conv3x3(swish(group_norm(x, scoped(w, "norm_in"))), scoped(w, "conv_in"))
    h = swish(film(group_norm(h, scoped(w, "norm_out")), emb, scoped(w, "film")))
    return x + conv3x3(h, scoped(w, "conv_out"))


def attention(x, w, head_size):
    """Position by position and head by head, as the definition has it."""
    height, width, channels = x.shape
    qkv = linear(x.reshape(-1, channels), scoped(w, "qkv"))
    q, k, v = (part.reshape(height * width, -1, head_size) for part in np.split(qkv, 3, axis=-1))
    q, k = (
        part / np.sqrt((part**2).mean(-1, keepdims=True) + 1e-6) * w[f"{name}/scale"]
        for part, name in ((q, "norm_q"), (k, "norm_k"))
    )
    out = np.empty_like(v)
    for head in range(v.shape[1]):
        score = np.exp(q[:, head] @ k[:, head].T / math.sqrt(head_size))
        out[:, head] = score / score.sum(axis=1, keepdims=True) @ v[:, head]
    return linear(out.reshape(height, width, channels), scoped(w, "attention_out"))


def transformer_block(x, emb, w, head_size):
    h = film(standardised(x, (2,)), emb, scoped(w, "film_attention"))
    x = x + attention(h, w, head_size)
    h = film(standardised(x, (2,)), emb, scoped(w, "film_mlp"))
    return x + linear(gelu(linear(h, scoped(w, "mlp_in"))), scoped(w, "mlp_out"))


def level(x, emb, w, kind, head_size):
    x = x + w.get("position", 0.0)
    for index in range(100):
        block = scoped(w, f"blocks/{index}")
        if not block:
            return x
        x = (
            res_block(x, emb, block)
            if kind == "res"
            else transformer_block(x, emb, block, head_size)
        )
    raise AssertionError


def conditioning(logsnr, label, w):
    size = len(w["linear_in/bias"])
    frequencies = 100.0 ** (np.arange(size // 2) / (size // 2 - 1))
    angles = logsnr / 20 * frequencies
    features = np.concatenate([np.sin(angles), np.cos(angles)])
    h = swish(linear(features, scoped(w, "linear_in")))
    return linear(h, scoped(w, "linear_out")) + w["classes/embedding"][label]


def down(x, w):
    return linear((x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4, w)


def up(x, w):
    return np.kron(x @ w["kernel"], np.ones((2, 2, 1)))


def patches_in(x, w):
    """Each patch, flattened, times the kernel, flattened."""
    size = w["kernel"].shape[0]
    height, width, colours = (x.shape[0] // size, x.shape[1] // size, x.shape[2])
    patches = x.reshape(height, size, width, size, colours).transpose(0, 2, 1, 3, 4)
    return patches.reshape(height, width, -1) @ w["kernel"].reshape(-1, w["bias"].size) + w["bias"]


def patches_out(x, w):
    """Each position paints its patch; the kernel's rows and columns run backwards."""
    size, _, _, colours = w["kernel"].shape
    height, width, _ = x.shape
    painted = np.einsum("hwc,ijco->hiwjo", x, w["kernel"][::-1, ::-1])
    return painted.reshape(height * size, width * size, colours) + w["bias"]


def network(z, logsnr, label, weights, config):
    """h − neg up, plus pos: SiD2's residual U-ViT, for one image [h, w, c]."""
    kinds, last = config.blocks, len(config.channels) - 1
    emb = conditioning(logsnr, label, scoped(weights, "conditioning"))
    h, skips = patches_in(z, scoped(weights, "patch_in")), []
    for i in range(last):
        pos = level(h, emb, scoped(weights, f"encoder/{i}"), kinds[i], config.head_size)
        h = down(pos, scoped(weights, f"down/{i}/project"))
        skips.append((pos, h))
    h = level(h, emb, scoped(weights, "middle"), kinds[last], config.head_size)
    for i in reversed(range(last)):
        pos, neg = skips[i]
        h = up(h - neg, scoped(weights, f"up/{i}/project")) + pos
        h = level(h, emb, scoped(weights, f"decoder/{i}"), kinds[i], config.head_size)
    h = swish(group_norm(h, scoped(weights, "norm_out")))
    return patches_out(h, scoped(weights, "patch_out"))
