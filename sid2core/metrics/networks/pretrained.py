"""The common part of the extractors with published weights: files, checks of tensors, batches."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
from numpy.typing import NDArray

from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import weights
from sid2core.metrics.networks.batching import Batching
from sid2core.metrics.networks.protocol import Features, Files
from sid2core.metrics.networks.torchfile import Tensors
from sid2core.metrics.networks.weights import Published

WEIGHTS = "weights.safetensors"
"""The name of the weight file in an artifact."""
_SHOWN = 3  # tensors named in a message, at most


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A feature extractor with published weights; a subclass adds the network.

    Attributes:
        tensors: the float32 tensors of the published file that the network uses, by name.
        origin: the SHA-256 of that file.
        batching: the size and the placement of batches.
    """

    name: ClassVar[str]
    distance: ClassVar[str]
    kernel: ClassVar[str]

    tensors: Tensors
    origin: str
    batching: Batching

    @property
    def widths(self) -> Mapping[str, int]:
        """The number of features of each kind."""
        raise NotImplementedError

    @property
    def provenance(self) -> Mapping[str, Any]:
        """JSON values that must agree before statistics of its features are compared."""
        return {"extractor": self.name, "extractor_digest": self.digest}

    def check(self, shape: tuple[int, ...]) -> None:
        """Check that it accepts images of this shape: [h, w, c] with 1 or 3 channels.

        Raises:
            MetricsError: it does not.
        """
        if len(shape) != 3 or shape[-1] not in (1, 3) or 0 in shape[:2]:
            msg = (
                f"{self.name} does not accept images of shape {list(shape)}; expected [h, w, c] "
                "with 1 or 3 channels: choose another extractor (eval.extractors) for these data"
            )
            raise MetricsError(msg)

    def features(self, images: NDArray[Any]) -> Features:
        """The features of raw images [n, h, w, c], grey ones repeated to three channels.

        Raises:
            MetricsError: other than uint8, or of a shape that is not accepted.
        """
        check_raw(images)
        self.check(images.shape[1:])
        network, weights = self._apply, self._replicated
        return self.batching.run(
            lambda batch: network(weights, batch), images, self.widths, self._prepare
        )

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the tensors, independent of the format of the file."""
        return weights.digest(self.tensors)

    def save(self, file: Files) -> None:
        """Write the weights as safetensors."""
        weights.write(file(WEIGHTS), self.tensors, self.origin)

    @functools.cached_property
    def _replicated(self) -> Any:
        return self.batching.replicated(self._tree())

    def _tree(self) -> Any:
        """The weights in the form that the network takes."""
        raise NotImplementedError

    def _prepare(self, images: NDArray[Any]) -> NDArray[Any]:
        """Preprocessing on the host."""
        return images

    def _apply(self, weights: Any, images: jax.Array) -> Mapping[str, jax.Array]:
        """The features of a batch on the devices."""
        raise NotImplementedError


def check_raw(images: NDArray[Any]) -> None:
    """Check that images are raw.

    Raises:
        MetricsError: they are not uint8, or no batch.
    """
    if images.dtype != np.uint8 or images.ndim < 4:
        msg = (
            f"images are {images.dtype} of shape {images.shape}; expected uint8 of [n, h, w, c] "
            "or [n, f, h, w, c]: round samples to whole values from 0 to 255 first"
        )
        raise MetricsError(msg)


def obtain(path: Path, choice: Sequence[Published], verify: bool) -> tuple[Tensors, str]:
    """The tensors of one of several published files, and the SHA-256 of that file.

    Args:
        path: one of the published files, or a safetensors file made from one.
        choice: the published files; errors name the first if ``path`` is none of them.
        verify: as in :func:`weights.obtain`.

    Raises:
        MetricsError: as :func:`weights.obtain`.
    """
    intended = _intended(path, choice)
    tensors = weights.obtain(path, intended, verify=verify)
    return tensors, intended.sha256 if verify else weights.origin(path)


def _intended(path: Path, choice: Sequence[Published]) -> Published:
    """The published file that ``path`` is by its size, or was made from."""
    if not path.is_file() or len(choice) == 1:
        return choice[0]
    by_size = {one.size: one for one in choice}
    by_origin = {one.sha256: one for one in choice}
    found = by_size.get(path.stat().st_size) or by_origin.get(weights.origin(path))
    return found or choice[0]


def fitted(
    tensors: Mapping[str, NDArray[Any]],
    shapes: Mapping[str, tuple[int, ...]],
    what: str,
    *,
    exact: bool = False,
) -> Tensors:
    """The tensors of a network as float32.

    Args:
        tensors: by name.
        shapes: of all tensors that the network has.
        what: the file and the expected network, for the message.
        exact: refuse additional tensors; otherwise they are ignored (other heads, for example).

    Raises:
        MetricsError: tensors are missing, have another shape, are additional, or have values that
            are not finite, or variances below zero; the message names them.
    """
    actual = {name: one.shape for name, one in tensors.items() if exact or name in shapes}
    wrong = [
        f"{name} is {actual.get(name, 'missing')}, expected {shapes.get(name, 'none')}"
        for name in (*shapes, *sorted(actual.keys() - shapes.keys()))
        if actual.get(name) != shapes.get(name)
    ]
    if wrong:
        more = f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        msg = f"{what}: {'; '.join(wrong[:_SHOWN])}{more}. It has {_some(tensors)}"
        raise MetricsError(msg)
    found = {name: tensors[name] for name in shapes}
    unsound = [
        name
        for name, one in found.items()
        if not np.isfinite(one).all() or (name.endswith("running_var") and one.min() < 0)
    ]
    if unsound:
        msg = (
            f"{what}: values are not finite, or variances below zero, in "
            f"{', '.join(unsound[:_SHOWN])}; use the published file"
        )
        raise MetricsError(msg)
    return {name: one.astype(np.float32, copy=False) for name, one in found.items()}


def _some(tensors: Mapping[str, Any]) -> str:
    names = sorted(tensors)
    return f"{len(names)} tensors: {', '.join(names[:_SHOWN])}{', …' * (len(names) > _SHOWN)}"
