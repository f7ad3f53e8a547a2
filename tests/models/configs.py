"""Networks for tests: configurations, and weights of which none is zero."""

import jax
import numpy as np

from sid2core.conditioning import Condition, ConditionSpec, TextKind
from sid2core.models.network import Network
from sid2core.models.uvit import UViTConfig

OPEN = {
    "heads": None,
    "position": "learned",
    "film": "both",
    "order": "attention_first",
    "text_channels": None,
    "compute_dtype": "float32",
}
"""The defaults of what the paper leaves open."""
PUBLISHED = {
    "condition": ConditionSpec.of_classes(1000),
    "channels": (128, 256, 512, 1024),
    "blocks": ("res", "res", "transformer", "transformer"),
    "encoder_depth": (3, 3, 3),
    "decoder_depth": (3, 3, 3),
    "mid_depth": 16,
    "dropout": (0.0, 0.0, 0.1, 0.1),
    "temporal_strides": (1, 1, 1),
    "emb_channels": 1024,
    "head_size": 64,
    **OPEN,
}
"""The widths of SiD2's models; the size of the image and of a patch are missing."""


def tiny(**changes):
    fields = {
        "image_shape": (8, 8, 3),
        "condition": ConditionSpec.of_classes(4),
        "patch_size": 2,
        "channels": (4, 12),
        "blocks": ("res", "transformer"),
        "encoder_depth": (1,),
        "decoder_depth": (2,),
        "mid_depth": 1,
        "dropout": (0.2, 0.3),
        "emb_channels": 8,
        "head_size": 6,
        **OPEN,
    }
    fields |= changes
    fields.setdefault("temporal_strides", (1,) * len(fields["encoder_depth"]))
    return UViTConfig(**fields)


def text_kind(tokens=5, channels=7, seed=0):
    """The text of a frozen encoder; the empty caption has one token."""
    null = np.random.default_rng(seed).normal(size=(1, channels)).astype(np.float16)
    return TextKind.of(null=null, encoder="t5", tokens=tokens, channels=channels)


def learned_kind(tokens=5, channels=8, vocabulary=16):
    """The text of a learned encoder; the empty caption is the end token."""
    sizes = {"vocabulary": vocabulary, "channels": channels, "depth": 1, "heads": 2}
    return TextKind.of(null=np.array([1], np.int32), encoder="learned", tokens=tokens, **sizes)


def weights(network: Network, seed=0):
    """Random weights for every parameter, of about the size that keeps activations near 1."""
    shapes = network.shapes()
    draws = np.random.default_rng(seed)
    return {
        name: jax.numpy.asarray(
            draws.normal(0.0, 0.3, shape.shape) + name.endswith("/scale"), jax.numpy.float32
        )
        for name, shape in sorted(shapes.items())
    }


def inputs(config, batch=3, seed=0):
    draws = np.random.default_rng(seed)
    z = draws.normal(size=(batch, *config.image_shape)).astype(np.float32)
    logsnr = draws.uniform(-10, 10, batch).astype(np.float32)
    labels = draws.integers(0, config.condition.label.classes + 1, batch).astype(np.int32)
    condition = Condition(label=jax.numpy.asarray(labels))
    return jax.numpy.asarray(z), jax.numpy.asarray(logsnr), condition


def float64(weights):
    return {name: np.asarray(value, np.float64) for name, value in weights.items()}
