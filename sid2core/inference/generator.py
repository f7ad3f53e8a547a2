"""Images from a trained model: which network, how guided, by which sampler, from which keys."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from numpy.typing import NDArray

from sid2core import rng
from sid2core.data.load.pixels import to_uint8
from sid2core.diffusion import parametrisation, samplers
from sid2core.diffusion.guidance import Guidance
from sid2core.diffusion.schedule import Schedule
from sid2core.models import cost
from sid2core.models.network import Network, Parameters
from sid2core.typing import Array, Image, Labels, LogSnr

STUDENT_SAMPLER = samplers.DDPM(logvar_fraction=0.0)
"""A distilled student's step: a draw from q(z_s | z_t, x_hat), the lower variance bound
(arXiv 2406.04103); what it was trained for."""


@dataclass(frozen=True)
class Denoiser:
    """x_hat from a network of any prediction."""

    network: Network
    prediction: parametrisation.Prediction

    def __call__(
        self, params: Mapping[str, Array], z: Image, logsnr: LogSnr, labels: Labels
    ) -> Image:
        """The network's estimate of the clean images [b, h, w, c]; not clipped."""
        output = self.network.apply(params, z, logsnr, labels)
        return parametrisation.x_from(self.prediction, z, output, logsnr)

    def unconditional(self, params: Mapping[str, Array], z: Image, logsnr: LogSnr) -> Image:
        """The same for the null class."""
        null = jnp.full((len(z),), self.network.config.num_classes, jnp.int32)
        return self(params, z, logsnr, null)


@dataclass(frozen=True)
class Method:
    """How images are drawn from a denoiser: everything but its weights."""

    denoiser: Denoiser
    schedule: Schedule
    sampler: samplers.Sampler
    guidance: Guidance
    steps: int
    clip: bool

    @property
    def plan(self) -> samplers.SamplingPlan:
        """Which networks are evaluated at which step; the same for every strength of guidance."""
        interval = self.guidance.interval
        return samplers.SamplingPlan(self.sampler, self.steps, self.schedule, interval)

    @property
    def nfe(self) -> int:
        """Network evaluations per image, counted exactly."""
        return self.plan.nfe

    @property
    def gflops_image(self) -> float:
        """GFLOPs an image costs (SiD2 supplement B.3)."""
        return self.nfe * cost.forward_gflops(self.denoiser.network.config)


_BATCHES = 8
"""Of a chunk."""


class Generator:
    """Draws labelled images; image i depends on the seed's stream and on i alone.

    Attributes:
        seconds: what each batch took an image, but the first, which may have been compiled.
    """

    def __init__(
        self,
        method: Method,
        params: Mapping[str, Array | np.ndarray],
        batch_size: int,
        sharding: NamedSharding | None = None,
    ):
        """Draw ``batch_size`` images at once, or the next number that devices can share.

        With a ``sharding`` of the batch, its devices share each batch, and all hold the weights.
        """
        self._sharding, self._batch_size = sharding, batch_size
        self._params = params
        if sharding is not None:
            devices = sharding.mesh.size
            self._batch_size = math.ceil(batch_size / devices) * devices
            self._params = jax.device_put(params, NamedSharding(sharding.mesh, PartitionSpec()))
        self._method, self._weight = method, np.float32(method.guidance.weight)
        self._warm, self.seconds = False, list[float]()

    def images(
        self, stream: Array, indices: NDArray[np.integer], labels: NDArray[np.int32]
    ) -> NDArray[np.uint8]:
        """Images [n, h, w, c] of ``labels`` [n], each from the key (``stream``, its index).

        Drawn in batches of one size, the last one padded, so one compilation serves all.
        """
        count = len(labels)
        padded = math.ceil(count / self._batch_size) * self._batch_size
        place = np.arange(padded) % count
        keys, wanted = rng.keys(stream, indices[place]), labels[place]
        drawn = [
            self._batch(keys[start : start + self._batch_size], wanted[start:][: self._batch_size])
            for start in range(0, padded, self._batch_size)
        ]
        return np.concatenate(drawn)[:count]

    def chunks(
        self, stream: Array, indices: NDArray[np.integer], labels: NDArray[np.int32]
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int32]]]:
        """The same a few batches at a time, with their labels: memory holds no more."""
        size = _BATCHES * self._batch_size
        for start in range(0, len(labels), size):
            part = slice(start, start + size)
            yield self.images(stream, indices[part], labels[part]), labels[part]

    def _batch(self, keys: Array, labels: NDArray[np.int32]) -> NDArray[np.uint8]:
        since = time.perf_counter()
        if self._sharding is not None:
            keys, labels = jax.device_put((keys, labels), self._sharding)
        method = self._method
        static = method.denoiser, method.plan, method.clip
        images = np.asarray(_draw(*static, self._params, self._weight, keys, labels))
        if self._warm:
            self.seconds.append((time.perf_counter() - since) / len(images))
        self._warm = True
        return images


@partial(jax.jit, static_argnums=(0, 1, 2))
def _draw(
    denoiser: Denoiser,
    plan: samplers.SamplingPlan,
    clip: bool,
    params: Parameters,
    weight: Array,
    keys: Array,
    labels: Labels,
) -> Array:
    """Images [b, …] in bytes. The strength of guidance is traced: all share one compilation."""
    images = samplers.sample_guided(
        keys,
        lambda z, logsnr: denoiser(params, z, logsnr, labels),
        lambda z, logsnr: denoiser.unconditional(params, z, logsnr),
        denoiser.network.config.image_shape,
        plan=plan,
        weight=weight,
        clip=clip,
    )
    return to_uint8(images)


def requested_labels(
    kind: str, seed: int, count: int, labels: NDArray[np.int32], num_classes: int
) -> NDArray[np.int32]:
    """The classes [count] that ``eval.labels`` asks for, of a data set with ``labels`` [n]."""
    if kind == "drawn":
        return drawn_labels(seed, count, np.bincount(labels, minlength=num_classes))
    return balanced_labels(count, num_classes)


def drawn_labels(seed: int, count: int, frequencies: NDArray[np.integer]) -> NDArray[np.int32]:
    """Label i is drawn from (seed, i), as often as classes are in ``frequencies`` [k]."""
    keys = rng.keys(rng.key(seed, "labels"), np.arange(count))
    uniform = np.asarray(jax.vmap(jax.random.uniform)(keys), np.float64)
    ends = np.cumsum(frequencies) / np.sum(frequencies)
    return np.searchsorted(ends, uniform, side="right").astype(np.int32)


def balanced_labels(count: int, num_classes: int) -> NDArray[np.int32]:
    """0, 1, …, k − 1, 0, 1, …: every class as often as any other, to within one."""
    return np.arange(count, dtype=np.int32) % num_classes
