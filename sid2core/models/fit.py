"""Whether weights fit a network: the first difference, and the configuration key behind it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import jax
import jax.numpy as jnp

from sid2core.errors import Sid2Error
from sid2core.models.architecture import UViTConfig
from sid2core.typing import Array

Shape = tuple[int, ...]

_KEYS: tuple[tuple[str, str], ...] = (
    (r"text/encoder/.*", "the section text"),
    (r"text/positions", "model.text.positions, model.text.channels or text.max_tokens"),
    (r"text/.*", "model.text, model.emb_channels or the section text"),
    (r"conditioning/classes/.*", "the data set's classes (first axis) or model.emb_channels"),
    (r"conditioning/.*", "model.emb_channels"),
    (
        r"patch_(in|out)/kernel",
        "model.patch_size, data.channels, data.given_frames or model.channels",
    ),
    (
        r".*/position",
        "model.position, model.blocks, or the grid: data.image_size, model.patch_size",
    ),
    (r"(down|up)/\d+/.*", "model.channels"),
    (r".*/film/linear/kernel", "model.emb_channels (first axis) or model.channels"),
    (r".*/film_(attention|mlp)/linear/.*", "model.film, model.emb_channels or model.channels"),
    (r".*/norm_[qk]/scale", "model.head_size or model.heads"),
    (r".*/text/.*", "model.text.channels, model.emb_channels or model.channels"),
)
_DEPTHS = {"encoder": "encoder_depth", "decoder": "decoder_depth", "middle": "mid_depth"}


class WeightsError(Sid2Error):
    """A weights file does not fit its configuration."""


def difference(found: Mapping[str, Shape], expected: Mapping[str, Shape]) -> str | None:
    """The first place where weights are not what a network asks for, and the key behind it.

    None where they fit. Places come in the network's own order; what is too much comes last.
    """
    for name, shape in expected.items():
        if name not in found:
            return f"has no {name}, expected {shape}; see {key_behind(name, missing=True)}"
        if found[name] != shape:
            return f"has {name} of shape {found[name]}, expected {shape}; see {key_behind(name)}"
    for name in sorted(set(found) - set(expected)):
        return f"has {name}, which the network does not; see {key_behind(name, missing=True)}"
    return None


def key_behind(name: str, *, missing: bool = False) -> str:
    """The key of the configuration that decides whether the weight ``name`` exists, and its shape.

    Args:
        name: name of a weight.
        missing: whether it is there at all that differs, not its shape.
    """
    for pattern, key in _KEYS:
        if re.fullmatch(pattern, name):
            return key
    part = name.split("/", 1)[0]
    if missing and part in _DEPTHS:
        return f"model.{_DEPTHS[part]} or model.blocks"
    return "model.channels"


def resized(
    params: Mapping[str, Array], source: UViTConfig, target: UViTConfig
) -> dict[str, Array]:
    """Weights for images of another size: position embeddings resized, all else as it is.

    The paper's fine-tuning from 256 to 512. Embeddings lie on the grid of their level and are
    interpolated linearly, each corner's centre on the image's own; RoPE has none to resize.

    Raises:
        WeightsError: the networks differ by more than the size of their images.
    """
    spec = source.condition
    if source.given_frames and target.is_video:  # of the other size
        spec = spec.with_given(source.given_frames, target.positions_shape)
    if replace(source, image_shape=target.image_shape, condition=spec) != target:
        names = [name for name in vars(target) if getattr(source, name) != getattr(target, name)]
        changed = ", ".join(
            f"{name} {getattr(source, name)} → {getattr(target, name)}"
            for name in names
            if name != "image_shape"
        )
        msg = f"weights can change the size of their images alone, but {changed}: set it back"
        raise WeightsError(msg)
    if source.image_shape[-1] != target.image_shape[-1]:
        msg = (
            f"weights for {source.image_shape[-1]} colours cannot serve "
            f"{target.image_shape[-1]}: set data.channels back"
        )
        raise WeightsError(msg)
    return {
        name: _on_grid(value, target.grid(_level_of(name, target)))
        if name.endswith("/position") and not name.startswith("text/")
        else value
        for name, value in params.items()
    }


def _level_of(name: str, config: UViTConfig) -> int:
    part, index, *_ = name.split("/")
    return len(config.channels) - 1 if part == "middle" else int(index)


def _on_grid(position: Array, grid: Shape) -> Array:
    shape = (*grid, position.shape[-1])
    return jax.image.resize(jnp.asarray(position), shape, "linear", antialias=True)
