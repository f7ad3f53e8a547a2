"""Features and class scores of raw images, the same whatever the size of the batches."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from flax import nnx
from numpy.typing import NDArray
from safetensors import SafetensorError

from sid2core.atomic import write_json
from sid2core.data.load import pixels
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks.classifier import Classifier
from sid2core.pipeline.artifact import Artifact, Draft

NAME = "classifier"
WEIGHTS = "extractor.safetensors"
CONFIG = "extractor.json"
_CHUNK = 256  # images a device call: bounds memory; the last chunk is padded to it


@dataclass(frozen=True)
class Architecture:
    """What the classifier is built from."""

    shape: tuple[int, int, int]
    num_classes: int
    channels: tuple[int, ...]
    feature_size: int

    def build(self, rngs: nnx.Rngs) -> Classifier:
        """A classifier with fresh weights."""
        return Classifier(
            in_channels=self.shape[-1],
            channels=self.channels,
            feature_size=self.feature_size,
            num_classes=self.num_classes,
            rngs=rngs,
        )

    def split(self) -> tuple[Any, Any]:
        """The module's graph and the shapes of its weights, a tree; nothing is computed."""
        model = nnx.eval_shape(lambda: self.build(nnx.Rngs(0)))
        graph, shapes = nnx.split(model)
        return graph, nnx.to_pure_dict(shapes)

    def init(self, key: jax.Array) -> Any:
        """Fresh weights, a tree of float32 arrays."""
        return jax.jit(lambda key: nnx.to_pure_dict(nnx.state(self.build(nnx.Rngs(key)))))(key)


@dataclass(frozen=True, eq=False)
class Extractor:
    """A trained classifier; ``weights`` is a tree of float32 arrays."""

    architecture: Architecture
    weights: Any

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of architecture and weights: two extractors of one digest are one."""
        content = json.dumps(dataclasses.asdict(self.architecture), sort_keys=True).encode()
        return hashlib.sha256(content + self._tensors()).hexdigest()

    @property
    def provenance(self) -> dict[str, Any]:
        """What statistics of these features must agree in."""
        return {
            "extractor": NAME,
            "extractor_digest": self.digest,
            "shape": list(self.architecture.shape),
        }

    def features(
        self, images: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features [n, d] and logits [n, k] of raw images [n, h, w, c].

        Raises:
            MetricsError: other than uint8 images of the extractor's shape.
        """
        expected = self.architecture.shape
        if images.dtype != np.uint8 or images.shape[1:] != expected:
            msg = (
                f"images are {images.dtype} of shape {images.shape}; this extractor needs uint8 "
                f"of [n, {', '.join(map(str, expected))}]: run `dvc repro reference` for this data"
            )
            raise MetricsError(msg)
        features = np.empty((len(images), self.architecture.feature_size), np.float32)
        logits = np.empty((len(images), self.architecture.num_classes), np.float32)
        for start in range(0, len(images), _CHUNK):
            chunk = images[start : start + _CHUNK]
            size = len(chunk)
            padding = [(0, _CHUNK - size), *[(0, 0)] * len(expected)]
            found = self._apply(np.pad(chunk, padding))
            features[start : start + size], logits[start : start + size] = (
                np.asarray(part)[:size] for part in found
            )
        return features, logits

    @functools.cached_property
    def _apply(self) -> Callable[[NDArray[np.uint8]], tuple[jax.Array, jax.Array]]:
        graph, _ = self.architecture.split()

        def apply(weights, images):
            return nnx.merge(graph, weights)(pixels.to_unit(images))

        return functools.partial(jax.jit(apply), jax.device_put(self.weights))

    def save(self, draft: Draft) -> None:
        """Write the weights and the architecture into an artifact."""
        draft.path(WEIGHTS).write_bytes(self._tensors())
        write_json(draft.path(CONFIG), {"name": NAME, **dataclasses.asdict(self.architecture)})

    def _tensors(self) -> bytes:
        return safetensors.numpy.save(
            {name: np.asarray(value) for name, value in _named(self.weights).items()}
        )

    @classmethod
    def load(cls, reference: Artifact) -> Extractor:
        """Read what :meth:`save` wrote.

        Raises:
            MetricsError: another extractor's files, or weights that do not fit the architecture.
        """
        cure = "run `dvc repro --force reference` to make it again"
        try:
            value = json.loads(reference.path(CONFIG).read_text(encoding="utf-8"))
            name, shape, channels = value["name"], tuple(value["shape"]), tuple(value["channels"])
            architecture = Architecture(
                shape, value["num_classes"], channels, value["feature_size"]
            )
            tensors = safetensors.numpy.load(reference.path(WEIGHTS).read_bytes())
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            msg = f"{reference.folder} holds no readable extractor ({error!r}); {cure}"
            raise MetricsError(msg) from None
        if name != NAME:
            msg = f"{reference.folder} holds extractor {name!r}; expected {NAME!r}; {cure}"
            raise MetricsError(msg)
        return cls(architecture, _fitted(architecture, tensors, f"{reference.folder}", cure))


def _named(tree: Any) -> dict[str, Any]:
    """Leaves by dotted path: ``stages.0.conv.kernel``."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _fitted(
    architecture: Architecture, tensors: dict[str, NDArray[Any]], origin: str, cure: str
) -> Any:
    """The architecture's tree of weights, filled from ``tensors``."""
    _, tree = architecture.split()
    wanted = {name: (leaf.shape, leaf.dtype) for name, leaf in _named(tree).items()}
    found = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    if found != wanted:
        wrong = sorted(name for name in found | wanted if found.get(name) != wanted.get(name))
        msg = (
            f"{origin}: weights {', '.join(wrong)} do not fit the extractor's architecture; {cure}"
        )
        raise MetricsError(msg)
    return jax.tree.unflatten(jax.tree.structure(tree), [tensors[name] for name in _named(tree)])
