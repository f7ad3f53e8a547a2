"""The data set's own feature extractor, a small network trained by the stage ``reference``."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np
import safetensors.numpy
from flax import nnx
from jax.sharding import NamedSharding
from numpy.typing import NDArray
from safetensors import SafetensorError

from sid2core import atomic
from sid2core.config.evaluation import OWN
from sid2core.data.load import pixels
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import self_supervised
from sid2core.metrics.networks.batching import Batching
from sid2core.metrics.networks.classifier import Classifier, ClipClassifier
from sid2core.metrics.networks.pretrained import check_raw
from sid2core.metrics.networks.protocol import LOGITS, POOL, Features, Files

WEIGHTS = "extractor.safetensors"
CONFIG = "extractor.json"
BATCH_SIZE = 256
"""Images, or frames of clips, that all devices take at once; several devices share them."""


@dataclass(frozen=True)
class Architecture:
    """What the network is built from.

    Attributes:
        shape: of the images, [h, w, c], or of the clips, [f, h, w, c].
        num_classes: the number of logits.
        channels: of each stage.
        feature_size: of the hidden layer.
        labelled: whether the logits are scores of the data set's classes. Otherwise the network was
            trained without labels, and only its features are used.
    """

    shape: tuple[int, ...]
    num_classes: int
    channels: tuple[int, ...]
    feature_size: int
    labelled: bool = True

    @property
    def batch_size(self) -> int:
        """Images or clips that all devices take at once."""
        frames = self.shape[0] if len(self.shape) == 4 else 1
        return max(1, BATCH_SIZE // frames)

    def build(self, rngs: nnx.Rngs) -> Classifier | ClipClassifier:
        """A network with fresh weights.

        That of clips has outputs for the levels of :mod:`self_supervised` after those of classes.
        """
        if len(self.shape) == 4:
            levels = self_supervised.CLIP_LEVELS if self.labelled else 0
            return ClipClassifier(
                in_channels=self.shape[-1],
                channels=self.channels,
                feature_size=self.feature_size,
                outputs=self.num_classes + levels,
                rngs=rngs,
            )
        return Classifier(
            in_channels=self.shape[-1],
            channels=self.channels,
            feature_size=self.feature_size,
            num_classes=self.num_classes,
            detail=not self.labelled,
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
class OwnExtractor:
    """A trained network.

    Features are ``pool`` [n, d], the hidden layer, and, if it was trained with labels, ``logits``
    [n, k] of the classes.

    Attributes:
        architecture: of the network.
        weights: a tree of float32 arrays.
        batching: the size and the placement of batches.
    """

    name: ClassVar[str] = OWN
    distance: ClassVar[str] = "fd"
    kernel: ClassVar[str] = "kd"

    architecture: Architecture
    weights: Any
    batching: Batching = Batching(BATCH_SIZE)

    @property
    def widths(self) -> Mapping[str, int]:
        """The number of features of each kind."""
        widths = {POOL: self.architecture.feature_size}
        if self.architecture.labelled:
            widths[LOGITS] = self.architecture.num_classes
        return widths

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of architecture and weights."""
        content = json.dumps(dataclasses.asdict(self.architecture), sort_keys=True).encode()
        return hashlib.sha256(content + self._tensors()).hexdigest()

    @property
    def provenance(self) -> Mapping[str, Any]:
        """JSON values that must agree before statistics of its features are compared."""
        return {
            "extractor": OWN,
            "extractor_digest": self.digest,
            "shape": list(self.architecture.shape),
        }

    def check(self, shape: tuple[int, ...]) -> None:
        """Check that images or clips have the shape that the network was trained on.

        Raises:
            MetricsError: they do not.
        """
        if shape != self.architecture.shape:
            what = "clips" if len(shape) == 4 else "images"
            msg = (
                f"{what} have shape {list(shape)}; the data set's own extractor expects "
                f"{list(self.architecture.shape)}: run `dvc repro reference` for these data"
            )
            raise MetricsError(msg)

    def features(self, images: NDArray[Any]) -> Features:
        """The features of raw images [n, h, w, c], or clips [n, f, h, w, c].

        Raises:
            MetricsError: other than uint8, or of another shape.
        """
        check_raw(images)
        self.check(images.shape[1:])
        network, weights = self._network, self._replicated
        return self.batching.run(lambda batch: network(weights, batch), images, self.widths)

    @functools.cached_property
    def _network(self) -> Any:
        (graph, _), widths = self.architecture.split(), self.widths

        @jax.jit
        def network(weights: Any, images: jax.Array) -> dict[str, jax.Array]:
            pool, outputs = nnx.merge(graph, weights)(pixels.to_unit(images))
            logits = outputs[:, : widths.get(LOGITS)]
            return {name: {POOL: pool, LOGITS: logits}[name] for name in widths}

        return network

    @functools.cached_property
    def _replicated(self) -> Any:
        return self.batching.replicated(self.weights)

    def save(self, file: Files) -> None:
        """Write the weights and the architecture."""
        atomic.write_bytes(file(WEIGHTS), self._tensors())
        atomic.write_json(file(CONFIG), {"name": OWN, **dataclasses.asdict(self.architecture)})

    def _tensors(self) -> bytes:
        return safetensors.numpy.save(
            {name: np.asarray(value) for name, value in _named(self.weights).items()}
        )

    @classmethod
    def load(cls, file: Files, sharding: NamedSharding | None = None) -> OwnExtractor:
        """The extractor that :meth:`save` wrote.

        Raises:
            MetricsError: the files are damaged, or the weights do not fit the architecture.
        """
        cure = "run `dvc repro --force reference` to make it again"
        folder = file(CONFIG).parent
        try:
            value = json.loads(file(CONFIG).read_text(encoding="utf-8"))
            name, shape, channels = value["name"], tuple(value["shape"]), tuple(value["channels"])
            architecture = Architecture(
                shape,
                value["num_classes"],
                channels,
                value["feature_size"],
                value.get("labelled", True),
            )
            tensors = safetensors.numpy.load(file(WEIGHTS).read_bytes())
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            msg = f"{folder} holds no readable extractor ({error!r}); {cure}"
            raise MetricsError(msg) from None
        if name != OWN:
            msg = f"{folder} holds extractor {name!r}; expected {OWN!r}; {cure}"
            raise MetricsError(msg)
        devices = 1 if sharding is None else sharding.mesh.size
        batching = Batching(-(-architecture.batch_size // devices), sharding)
        return cls(architecture, _fitted(architecture, tensors, f"{folder}", cure), batching)


def _named(tree: Any) -> dict[str, Any]:
    """Leaves by dotted path: ``stages.0.conv.kernel``."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _fitted(
    architecture: Architecture, tensors: dict[str, NDArray[Any]], origin: str, cure: str
) -> Any:
    """The architecture's tree of weights, filled from ``tensors``."""
    _, tree = architecture.split()
    expected = {name: (leaf.shape, leaf.dtype) for name, leaf in _named(tree).items()}
    actual = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    if actual != expected:
        wrong = sorted(name for name in actual | expected if actual.get(name) != expected.get(name))
        msg = (
            f"{origin}: weights {', '.join(wrong)} do not fit the extractor's architecture; {cure}"
        )
        raise MetricsError(msg)
    return jax.tree.unflatten(jax.tree.structure(tree), [tensors[name] for name in _named(tree)])
