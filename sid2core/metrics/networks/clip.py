"""CLIP (arXiv 2103.00020), both towers, for the CLIP score: ViT-B/32 or ViT-L/14.

The user supplies a folder as Hugging Face publishes it: the weights, ``config.json`` and
``tokenizer.json``. Images are resized by Pillow's bicubic filter so that the shorter side fits,
cropped in the middle, then (x/255 - mean) / std. The vector of a text is that of its end token.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer

from sid2core import atomic, stand_ins
from sid2core.config.evaluation import Weights
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import pretrained, weights
from sid2core.metrics.networks.batching import Batching
from sid2core.metrics.networks.pretrained import WEIGHTS, Pretrained
from sid2core.metrics.networks.protocol import POOL, Files
from sid2core.metrics.networks.torchfile import Tensors
from sid2core.typing import Array, Float, Int

NAME = "clip"
CONFIG, TOKENIZER = "config.json", "tokenizer.json"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""The first one that is there is read."""
BATCH_SIZE = 32
"""Images or texts that a device takes at once."""
PUBLISHED = "openai/clip-vit-base-patch32 or openai/clip-vit-large-patch14 of Hugging Face"
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_FIRST_END = 2
"""Written as the id of the end token by old files: it is the largest id of a text instead."""

Params = dict[str, Any]
"""Arrays by name; under ``layers``, those of all layers, stacked."""
Activation = Literal["quick_gelu", "gelu"]


@dataclass(frozen=True)
class Tower:
    """One Transformer: its width, layers, heads, the MLP's width, activation and norms' epsilon."""

    width: int
    layers: int
    heads: int
    hidden: int
    activation: Activation
    epsilon: float


@dataclass(frozen=True)
class Design:
    """Sizes of both towers, as ``config.json`` has them.

    Attributes:
        vision: of images.
        text: of texts.
        size: side of the images in pixels.
        patch: side of a patch.
        tokens: the longest text.
        vocabulary: rows of the embedding.
        end: id of the end token.
        channels: length of both towers' vectors.
    """

    vision: Tower
    text: Tower
    size: int
    patch: int
    tokens: int
    vocabulary: int
    end: int
    channels: int

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Design:
        """The content of ``config.json``; keys that it lacks have the values of ViT-B/32.

        Raises:
            TypeError: a value is of another type.
            KeyError: it is no configuration of CLIP.
        """
        text, vision = raw["text_config"], raw["vision_config"]
        return cls(
            _tower(vision, 768, 12, 12, 3072),
            _tower(text, 512, 12, 8, 2048),
            vision.get("image_size", 224),
            vision.get("patch_size", 32),
            text.get("max_position_embeddings", 77),
            text.get("vocab_size", 49408),
            text.get("eos_token_id", _FIRST_END),
            raw.get("projection_dim", 512),
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The published name and shape of every tensor that is used."""
        image, text = self.vision.width, self.text.width
        positions = (self.size // self.patch) ** 2 + 1
        found: dict[str, tuple[int, ...]] = {
            "vision_model.embeddings.class_embedding": (image,),
            "vision_model.embeddings.patch_embedding.weight": (image, 3, self.patch, self.patch),
            "vision_model.embeddings.position_embedding.weight": (positions, image),
            "visual_projection.weight": (self.channels, image),
            "text_model.embeddings.token_embedding.weight": (self.vocabulary, text),
            "text_model.embeddings.position_embedding.weight": (self.tokens, text),
            "text_projection.weight": (self.channels, text),
        }
        norms = ("vision_model.pre_layrnorm", "vision_model.post_layernorm")
        for name, width in (
            *((one, image) for one in norms),
            ("text_model.final_layer_norm", text),
        ):
            found |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
        for prefix, tower in (("vision_model", self.vision), ("text_model", self.text)):
            for index in range(tower.layers):
                for name, shape in _layer_shapes(tower).items():
                    found[f"{prefix}.encoder.layers.{index}.{name}"] = shape
        return found


def _tower(raw: Mapping[str, Any], width: int, layers: int, heads: int, hidden: int) -> Tower:
    activation = raw.get("hidden_act", "quick_gelu")
    if activation not in ("quick_gelu", "gelu"):
        raise TypeError(f"hidden_act is {activation!r}, expected quick_gelu or gelu")
    return Tower(
        raw.get("hidden_size", width),
        raw.get("num_hidden_layers", layers),
        raw.get("num_attention_heads", heads),
        raw.get("intermediate_size", hidden),
        activation,
        raw.get("layer_norm_eps", 1e-5),
    )


def _layer_shapes(tower: Tower) -> dict[str, tuple[int, ...]]:
    width, hidden = tower.width, tower.hidden
    linears = {f"self_attn.{one}_proj": (width, width) for one in ("q", "k", "v", "out")}
    linears |= {"mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in linears.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in ("layer_norm1", "layer_norm2"):
        found |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return found


def load(folder: Path | str, *, batching: Batching | None = None) -> CLIP:
    """Read a folder as Hugging Face publishes it.

    Args:
        folder: with the weights, ``config.json`` and ``tokenizer.json``.
        batching: the size and the placement of batches; by default 32 on one device.

    Raises:
        MetricsError: a file is missing, damaged, or of another network.
    """
    place = Path(folder)
    there = [name for name in WEIGHT_FILES if (place / name).is_file()]
    missing = [one for one in (CONFIG, TOKENIZER) if not (place / one).is_file()]
    missing += [] if there else [WEIGHT_FILES[0]]
    if missing:
        msg = (
            f"eval.extractors.clip.weights: {place} has no {' and no '.join(missing)}; expected a "
            f"folder with {CONFIG}, {TOKENIZER} and {' or '.join(WEIGHT_FILES)} of {PUBLISHED}"
        )
        raise MetricsError(msg)
    for name in (CONFIG, TOKENIZER, there[0]):
        stand_ins.check_file(place / name, MetricsError, f"expected that of {PUBLISHED}")
    path = place / there[0]
    return _made(place / CONFIG, place / TOKENIZER, path, batching)


def _made(config: Path, tokenizer: Path, path: Path, batching: Batching | None) -> CLIP:
    try:
        raw = json.loads(config.read_text(encoding="utf-8"))
        design = Design.of(raw)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{config} is not the configuration of a CLIP ({error!r}); put that of {PUBLISHED}"
        raise MetricsError(f"{msg} there") from None
    try:
        words = tokenizer.read_text(encoding="utf-8")
        Tokenizer.from_str(words)
    except Exception as error:  # the library raises plain exceptions
        msg = f"{tokenizer} is no tokenizer ({error}); put that of {PUBLISHED} there"
        raise MetricsError(msg) from None
    tensors = weights.read(path)
    fitted = pretrained.fitted(tensors, design.shapes(), f"{path} does not fit {config.name}")
    return CLIP(fitted, weights.origin(path), batching or Batching(BATCH_SIZE), design, words)


@dataclass(frozen=True, eq=False)
class CLIP(Pretrained):
    """CLIP; ``tensors`` have Hugging Face's names.

    Features are ``pool`` [n, d], the image tower's unit vectors.

    Attributes:
        design: sizes of both towers.
        words: the content of ``tokenizer.json``.
    """

    design: Design
    words: str
    name: ClassVar[str] = NAME
    distance: ClassVar[str] = "fd_clip"
    kernel: ClassVar[str] = "kd_clip"

    @property
    def widths(self) -> Mapping[str, int]:
        """The number of features of each kind."""
        return {POOL: self.design.channels}

    @property
    def provenance(self) -> Mapping[str, Any]:
        """JSON values that must agree before statistics of its features are compared."""
        return {
            **super().provenance,
            "features": "unit vectors of images",
            "tokenizer": hashlib.sha256(self.words.encode()).hexdigest(),
            "resize": f"{self.design.size}, Pillow bicubic, antialias, uint8, middle; CLIP's mean",
        }

    @classmethod
    def from_settings(cls, settings: Weights, sharding: NamedSharding | None = None) -> CLIP:
        """The extractor of ``eval.extractors.clip``."""
        return load(settings.weights or "", batching=Batching(BATCH_SIZE, sharding))

    @classmethod
    def load(cls, file: Files, sharding: NamedSharding | None = None) -> CLIP:
        """The extractor that :meth:`save` wrote."""
        batching = Batching(BATCH_SIZE, sharding)
        return _made(file(CONFIG), file(TOKENIZER), file(WEIGHTS), batching)

    def save(self, file: Files) -> None:
        """Write weights, sizes and tokenizer."""
        super().save(file)
        design = self.design
        raw = {
            "text_config": _dumped(design.text)
            | {
                "max_position_embeddings": design.tokens,
                "vocab_size": design.vocabulary,
                "eos_token_id": design.end,
            },
            "vision_config": _dumped(design.vision)
            | {"image_size": design.size, "patch_size": design.patch},
            "projection_dim": design.channels,
        }
        atomic.write_json(file(CONFIG), raw)
        atomic.write_text(file(TOKENIZER), self.words)

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of texts [k, d]; longer ones are cut, their end token kept."""
        ids, weights = self.ids(texts), self._replicated
        design = self.design
        return self.batching.run(
            lambda batch: {POOL: _texts(weights, batch, design)}, ids, self.widths
        )[POOL]

    def ids(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """The token ids of texts, [k, n]; after the end token comes padding."""
        found = self._tokenizer.encode_batch(list(texts))
        return np.array([one.ids for one in found], np.int32).reshape(len(texts), -1)

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer.from_str(self.words)
        tokenizer.enable_truncation(self.design.tokens)
        tokenizer.enable_padding(length=self.design.tokens, pad_id=0)
        return tokenizer

    def _tree(self) -> Any:
        return prepare(self.tensors)

    def _prepare(self, images: NDArray[Any]) -> NDArray[Any]:
        return resized(images, self.design.size)

    def _apply(self, weights: Any, images: jax.Array) -> Mapping[str, jax.Array]:
        return {POOL: _images(weights, images, self.design)}


def _dumped(tower: Tower) -> dict[str, Any]:
    names = {
        "width": "hidden_size",
        "layers": "num_hidden_layers",
        "heads": "num_attention_heads",
        "hidden": "intermediate_size",
        "activation": "hidden_act",
        "epsilon": "layer_norm_eps",
    }
    return {names[name]: value for name, value in dataclasses.asdict(tower).items()}


@functools.partial(jax.jit, static_argnums=2)
def _images(params: Params, images: Array, design: Design) -> Array:
    return image_vectors(params, normalised(images), design)


@functools.partial(jax.jit, static_argnums=2)
def _texts(params: Params, ids: Array, design: Design) -> Array:
    return text_vectors(params, ids, design)


def resized(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The shorter side becomes ``size``, and the middle is cut out: [n, size, size, 3]."""
    found = np.empty((len(images), size, size, 3), np.uint8)
    for image, place in zip(images, found, strict=True):
        height, width = image.shape[:2]
        short = min(height, width)
        new = (size * width // short, size * height // short)
        colours = np.ascontiguousarray(np.broadcast_to(image, (height, width, 3)))
        whole = np.asarray(Image.fromarray(colours).resize(new, Image.Resampling.BICUBIC))
        top, left = (whole.shape[0] - size) // 2, (whole.shape[1] - size) // 2
        place[:] = whole[top : top + size, left : left + size]
    return found


def normalised(images: Array) -> Array:
    """(x/255 - mean) / std, by channel."""
    mean, std = (jnp.asarray(one, jnp.float32).reshape(1, 1, 1, 3) for one in (_MEAN, _STD))
    return (images.astype(jnp.float32) / 255 - mean) / std


def prepare(tensors: Tensors) -> Params:
    """Matrices as [in, out], a patch's pixels as [h, w, c], all layers of a tower stacked."""
    ready: Params = {"vision_model.layers": {}, "text_model.layers": {}}
    stacked: dict[tuple[str, str], list[tuple[int, Any]]] = {}
    for name, tensor in tensors.items():
        if tensor.ndim == 4:
            value = tensor.transpose(2, 3, 1, 0).reshape(-1, len(tensor))
        elif tensor.ndim == 2 and "embedding" not in name:
            value = tensor.T
        else:
            value = tensor
        if ".encoder.layers." in name:
            model, _, rest = name.partition(".encoder.layers.")
            index, _, part = rest.partition(".")
            stacked.setdefault((f"{model}.layers", part), []).append((int(index), value))
        else:
            ready[name] = value
    for (tower, part), values in stacked.items():
        ready[tower][part] = np.stack(
            [value for _, value in sorted(values, key=lambda one: one[0])]
        )
    return ready


def image_vectors(
    params: Params, x: Float[Array, "n h w 3"], design: Design
) -> Float[Array, "n d"]:
    """Unit vectors of normalised images of the network's size."""
    tower, patch = design.vision, design.patch
    grid, count = design.size // patch, len(x)
    with jax.default_matmul_precision("highest"):
        patches = x.reshape(count, grid, patch, grid, patch, 3).swapaxes(2, 3)
        patches = patches.reshape(count, grid**2, patch**2 * 3)
        tokens = patches @ params["vision_model.embeddings.patch_embedding.weight"]
        first = params["vision_model.embeddings.class_embedding"]
        first = jnp.broadcast_to(first, (count, 1, tower.width))
        tokens = jnp.concatenate([first, tokens], axis=1)
        tokens += params["vision_model.embeddings.position_embedding.weight"][None]
        tokens = _norm(tokens, params, "vision_model.pre_layrnorm", tower)
        tokens = _layers(tokens, params["vision_model.layers"], tower, causal=False)
        pooled = _norm(tokens[:, 0], params, "vision_model.post_layernorm", tower)
        return _unit(pooled @ params["visual_projection.weight"])


def text_vectors(params: Params, ids: Int[Array, "n t"], design: Design) -> Float[Array, "n d"]:
    """Unit vectors of texts: that of the first end token, after causal attention."""
    tower = design.text
    with jax.default_matmul_precision("highest"):
        tokens = params["text_model.embeddings.token_embedding.weight"][ids]
        tokens += params["text_model.embeddings.position_embedding.weight"][None, : ids.shape[1]]
        tokens = _layers(tokens, params["text_model.layers"], tower, causal=True)
        tokens = _norm(tokens, params, "text_model.final_layer_norm", tower)
        ends = ids if design.end == _FIRST_END else (ids == design.end).astype(jnp.int32)
        place = ends.argmax(axis=1)[:, None, None]
        pooled = jnp.take_along_axis(tokens, place, axis=1)[:, 0]
        return _unit(pooled @ params["text_projection.weight"])


def _layers(x: Array, params: Params, tower: Tower, *, causal: bool) -> Array:
    count = x.shape[1]
    allowed = jnp.tril(jnp.ones((1, 1, count, count), bool)) if causal else None

    def layer(x: Array, params: Params) -> tuple[Array, None]:
        x = x + _attention(_norm(x, params, "layer_norm1", tower), params, tower, allowed)
        hidden = _linear(_norm(x, params, "layer_norm2", tower), params, "mlp.fc1")
        if tower.activation == "quick_gelu":
            hidden = hidden * jax.nn.sigmoid(1.702 * hidden)
        else:
            hidden = jax.nn.gelu(hidden, approximate=False)
        return x + _linear(hidden, params, "mlp.fc2"), None

    return jax.lax.scan(layer, x, params)[0]


def _attention(x: Array, params: Params, tower: Tower, allowed: Array | None) -> Array:
    count, tokens, width = x.shape
    size = width // tower.heads
    query, key, value = (
        _linear(x, params, f"self_attn.{one}_proj").reshape(count, tokens, tower.heads, size)
        for one in ("q", "k", "v")
    )
    scores = jnp.einsum("nqhc,nkhc->nhqk", query / math.sqrt(size), key)
    if allowed is not None:
        scores = jnp.where(allowed, scores, -jnp.inf)
    mixed = jnp.einsum("nhqk,nkhc->nqhc", jax.nn.softmax(scores), value)
    return _linear(mixed.reshape(count, tokens, width), params, "self_attn.out_proj")


def _linear(x: Array, params: Params, name: str) -> Array:
    return x @ params[f"{name}.weight"] + _along(params[f"{name}.bias"], x)


def _norm(x: Array, params: Params, name: str, tower: Tower) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = jax.lax.rsqrt((centred**2).mean(axis=-1, keepdims=True) + tower.epsilon)
    weight, bias = (_along(params[f"{name}.{one}"], x) for one in ("weight", "bias"))
    return centred * scale * weight + bias


def _along(vector: Array, x: Array) -> Array:
    """The vector as an array of as many axes as ``x``, along its last one."""
    return vector.reshape((1,) * (x.ndim - 1) + (-1,))


def _unit(x: Array) -> Array:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
