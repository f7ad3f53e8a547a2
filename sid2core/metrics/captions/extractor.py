"""The data set's own judge of captions: a trained :class:`TwoTowers` with its tokenizer."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from flax import nnx
from jax.sharding import NamedSharding
from numpy.typing import NDArray
from safetensors import SafetensorError

from sid2core import atomic
from sid2core.data.load import pixels
from sid2core.metrics.captions.network import DEPTH, HEADS, WIDTH, TwoTowers
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks.batching import Batching
from sid2core.metrics.networks.pretrained import check_raw
from sid2core.metrics.networks.protocol import Features, Files
from sid2core.text.errors import TextError
from sid2core.text.learned import FILE, LearnedEncoder, LearnedSpec

NAME = "captions"
"""Its name in artifacts and tables."""
VECTOR, ATTRIBUTES = "vector", "attributes"
"""Kinds of features of images: the image tower's vector, the scores of the attributes' values."""
WEIGHTS, CONFIG = "extractor.safetensors", "extractor.json"
BATCH_SIZE = 256
"""Images or texts that all devices take at once."""
_CURE = "run `dvc repro --force reference` to make it again"


@dataclass(frozen=True)
class Design:
    """What the network is built from.

    Attributes:
        shape: of the images, [h, w, c].
        channels: of the image tower's stages.
        feature_size: of its hidden layer.
        vocabulary: at most so many token ids.
        max_tokens: tokens of a caption that are read.
        attributes: the values of each attribute, by name.
        seen: the pairs of values that the train split has; see
            :data:`sid2core.metrics.captions.scores.PAIR`.
    """

    shape: tuple[int, int, int]
    channels: tuple[int, ...]
    feature_size: int
    vocabulary: int
    max_tokens: int
    attributes: Mapping[str, tuple[str, ...]]
    seen: tuple[tuple[str, str], ...] = ()

    @property
    def tokenizer(self) -> LearnedSpec:
        """The tokenizer's settings."""
        return LearnedSpec(self.vocabulary, WIDTH, DEPTH, HEADS, self.max_tokens)

    def build(self, ids: int, rngs: nnx.Rngs) -> TwoTowers:
        """A network with fresh weights, for so many token ids."""
        return TwoTowers(
            in_channels=self.shape[-1],
            channels=self.channels,
            feature_size=self.feature_size,
            vocabulary=ids,
            max_tokens=self.max_tokens,
            attribute_values=sum(map(len, self.attributes.values())),
            rngs=rngs,
        )

    def split(self, ids: int) -> tuple[Any, Any]:
        """The module's graph and the shapes of its weights, a tree; nothing is computed."""
        graph, shapes = nnx.split(nnx.eval_shape(lambda: self.build(ids, nnx.Rngs(0))))
        return graph, nnx.to_pure_dict(shapes)

    def init(self, ids: int, key: jax.Array) -> Any:
        """Fresh weights, a tree of float32 arrays."""
        return jax.jit(lambda key: nnx.to_pure_dict(nnx.state(self.build(ids, nnx.Rngs(key)))))(key)


@dataclass(frozen=True, eq=False)
class CaptionExtractor:
    """Both towers, trained.

    Attributes:
        design: of the network.
        tokenizer: of captions.
        weights: a tree of float32 arrays.
        batching: the size and the placement of batches.
    """

    design: Design
    tokenizer: LearnedEncoder
    weights: Any
    batching: Batching = Batching(BATCH_SIZE)

    @property
    def widths(self) -> Mapping[str, int]:
        """The number of features of each kind."""
        values = sum(map(len, self.design.attributes.values()))
        return {VECTOR: WIDTH} | ({ATTRIBUTES: values} if values else {})

    @functools.cached_property
    def provenance(self) -> Mapping[str, Any]:
        """JSON values that change whenever a feature may."""
        content = json.dumps(dataclasses.asdict(self.design), sort_keys=True).encode()
        content += self.tokenizer.digest.encode() + self._tensors()
        return {"extractor": NAME, "extractor_digest": hashlib.sha256(content).hexdigest()}

    def features(self, images: NDArray[np.uint8]) -> Features:
        """The features of raw images [n, h, w, c].

        Raises:
            MetricsError: other than uint8, or of another shape.
        """
        check_raw(images)
        if images.shape[1:] != self.design.shape:
            found, expected = list(images.shape[1:]), list(self.design.shape)
            msg = f"images have shape {found}; the caption extractor expects {expected}: {_CURE}"
            raise MetricsError(msg)
        network, weights = self._networks[0], self._replicated
        return self.batching.run(lambda batch: network(weights, batch), images, self.widths)

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of texts, [k, d].

        Raises:
            TextError: a text is not valid Unicode.
        """
        tokens = self.tokenizer.tokenize(texts)
        network, weights = self._networks[1], self._replicated
        joined = np.stack([tokens.ids, tokens.mask.astype(np.int32)], axis=1)
        found = self.batching.run(lambda batch: network(weights, batch), joined, {VECTOR: WIDTH})
        return found[VECTOR]

    @functools.cached_property
    def _networks(self) -> tuple[Any, Any]:
        (graph, _), widths = self.design.split(self.tokenizer.vocabulary), self.widths

        @jax.jit
        def images(weights: Any, batch: jax.Array) -> dict[str, jax.Array]:
            vector, attributes = nnx.merge(graph, weights).images(pixels.to_unit(batch))
            return {kind: {VECTOR: vector, ATTRIBUTES: attributes}[kind] for kind in widths}

        @jax.jit
        def texts(weights: Any, batch: jax.Array) -> dict[str, jax.Array]:
            # Rows that fill the batch have no token, and take the first.
            ids, mask = batch[:, 0], (batch[:, 1] > 0).at[:, 0].set(True)
            with jax.default_matmul_precision("highest"):
                return {VECTOR: nnx.merge(graph, weights).texts(ids, mask)}

        return images, texts

    @functools.cached_property
    def _replicated(self) -> Any:
        return self.batching.replicated(self.weights)

    def save(self, file: Files) -> None:
        """Write weights, design and tokenizer."""
        atomic.write_bytes(file(WEIGHTS), self._tensors())
        design = dataclasses.asdict(self.design) | {"tokenizer": self.tokenizer.digest}
        atomic.write_json(file(CONFIG), design)
        atomic.write_text(file(FILE), self.tokenizer.tokenizer.to_str(pretty=True))

    def _tensors(self) -> bytes:
        return safetensors.numpy.save(
            {name: np.asarray(value) for name, value in _named(self.weights).items()}
        )

    @classmethod
    def load(cls, file: Files, sharding: NamedSharding | None = None) -> CaptionExtractor:
        """The extractor that :meth:`save` wrote.

        Raises:
            MetricsError: the files are damaged, or do not fit each other.
        """
        folder = file(CONFIG).parent
        try:
            value = json.loads(file(CONFIG).read_text(encoding="utf-8"))
            digest = value.pop("tokenizer")
            value |= {name: tuple(value[name]) for name in ("shape", "channels")}
            value["attributes"] = {one: tuple(some) for one, some in value["attributes"].items()}
            value["seen"] = tuple(map(tuple, value["seen"]))
            design = Design(**value)
            tokenizer = design.tokenizer.load(file(FILE).parent, {"tokenizer": digest})
            tensors = safetensors.numpy.load(file(WEIGHTS).read_bytes())
        except (
            *(OSError, ValueError, KeyError, TypeError, AttributeError),
            *(SafetensorError, TextError),
        ) as error:
            msg = f"{folder} holds no readable caption extractor ({error!r}); {_CURE}"
            raise MetricsError(msg) from None
        _, tree = design.split(tokenizer.vocabulary)
        expected = {name: (leaf.shape, leaf.dtype) for name, leaf in _named(tree).items()}
        if expected != {name: (one.shape, one.dtype) for name, one in tensors.items()}:
            msg = f"{folder}: the weights do not fit the caption extractor's design; {_CURE}"
            raise MetricsError(msg)
        weights = jax.tree.unflatten(jax.tree.structure(tree), [tensors[name] for name in expected])
        devices = 1 if sharding is None else sharding.mesh.size
        return cls(design, tokenizer, weights, Batching(-(-BATCH_SIZE // devices), sharding))


def _named(tree: Any) -> dict[str, Any]:
    """Leaves by dotted path."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
