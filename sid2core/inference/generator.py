"""Images from a trained model, with any sampler and guidance, from one key per image."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from numpy.typing import NDArray

from sid2core import conditioning, rng
from sid2core.conditioning import Condition
from sid2core.data.load.pixels import to_uint8
from sid2core.diffusion import samplers
from sid2core.diffusion.clipping import ClipX
from sid2core.diffusion.guidance import Guidance, Negative
from sid2core.diffusion.schedule import Schedule
from sid2core.inference import negatives
from sid2core.inference.denoiser import Denoiser
from sid2core.inference.negatives import WorseModel
from sid2core.models import cost
from sid2core.models.network import Parameters
from sid2core.typing import Array, LogSnr, Samples

__all__ = ["Denoiser", "Generator", "Method", "WorseModel"]


@dataclass(frozen=True)
class Method:
    """How images are drawn from a denoiser: everything but its weights."""

    denoiser: Denoiser
    schedule: Schedule
    sampler: samplers.Sampler
    guidance: Guidance
    steps: int
    clip_x: ClipX

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
    def guided(self) -> bool:
        """Whether guidance acts at any evaluation."""
        return any(any(run.guided) for run in self.plan.runs)

    @property
    def gflops_image(self) -> float:
        """GFLOPs an image costs (SiD2 supplement B.3)."""
        return self.nfe * cost.forward_gflops(self.denoiser.network.config)


class Generator:
    """Draws images; image i depends on the seed's stream, its condition and i alone.

    Attributes:
        seconds: time per image of each batch but the first, which may include compilation; from
            the arrival of the batch before, if there was one.
    """

    def __init__(
        self,
        method: Method,
        params: Mapping[str, Array | np.ndarray],
        batch_size: int,
        sharding: NamedSharding | None = None,
        worse: WorseModel | None = None,
    ):
        """Prepare to draw ``batch_size`` images at once, or the next number devices can share.

        Args:
            method: how images are drawn.
            params: the weights.
            batch_size: images in one call.
            sharding: of the batch over devices; each of them holds all weights.
            worse: the negative of autoguidance.
        """
        self._sharding, self._batch_size = sharding, batch_size
        self._params, self._worse = params, worse
        if sharding is not None:
            devices = sharding.mesh.size
            self._batch_size = math.ceil(batch_size / devices) * devices
            everywhere = NamedSharding(sharding.mesh, PartitionSpec())
            self._params = jax.device_put(params, everywhere)
            if worse is not None:
                self._worse = replace(worse, params=jax.device_put(worse.params, everywhere))
        self._method, self._weight = method, np.float32(method.guidance.weight)
        self._warm, self.seconds = False, list[float]()

    def images(
        self,
        stream: Array,
        indices: NDArray[np.integer],
        condition: Condition,
        negative: Condition | None = None,
    ) -> NDArray[np.uint8]:
        """Images [n, h, w, c] or clips [n, f, h, w, c], each from the key (``stream``, its index).

        A clip begins with its given frames, byte for byte.

        Drawn in batches of one size, the last one padded, so one compilation serves all. Each
        is fetched after the next one was begun, so the devices do not wait for the host.

        Args:
            stream: a key.
            indices: of the images, [n].
            condition: of the images, on the host.
            negative: the condition that guidance by a prompt pushes away from.

        Raises:
            NegativeError: the guidance needs a negative that was not given.
        """
        spec = self._method.denoiser.network.config.condition
        negatives.check(self._method.guidance, spec, self._worse, negative)
        count, size, since = len(indices), self._batch_size, time.perf_counter()
        padded = math.ceil(count / size) * size
        place = np.arange(padded) % count
        keys = rng.keys(stream, indices[place])
        both = conditioning.taken((condition, negative), place)
        parts = (slice(start, start + size) for start in range(0, padded, size))
        batches = (self._begun(keys[part], *conditioning.taken(both, part)) for part in parts)
        drawn = []
        for batch, _ in itertools.pairwise(itertools.chain(batches, [None])):
            drawn.append(np.asarray(batch))  # while the devices draw the next one
            now = time.perf_counter()
            if self._warm:
                self.seconds.append((now - since) / size)
            since, self._warm = now, True
        given = conditioning.taken(both[0], slice(count))
        return conditioning.whole(np.concatenate(drawn)[:count], given)

    def _begun(self, keys: Array, condition: Condition, negative: Condition | None) -> Array:
        """A batch of images that the devices are drawing, not waited for."""
        if self._sharding is not None:
            keys, condition, negative = jax.device_put((keys, condition, negative), self._sharding)
        method, worse = self._method, self._worse
        kind = Negative.NONE if method.guidance.weight == 0.0 else method.guidance.negative
        use = worse if kind is Negative.WORSE_MODEL else None
        return _draw(
            method.denoiser,
            method.plan,
            method.clip_x,
            kind,
            None if use is None else use.denoiser,
            self._params,
            None if use is None else use.params,
            self._weight,
            keys,
            condition,
            negative if kind is Negative.PROMPT else None,
        )


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _draw(
    denoiser: Denoiser,
    plan: samplers.SamplingPlan,
    clip_x: ClipX,
    kind: Negative,
    worse: Denoiser | None,
    params: Parameters,
    worse_params: Parameters | None,
    weight: Any,
    keys: Array,
    condition: Condition,
    prompt: Condition | None,
) -> Array:
    """Images [b, …] in bytes. The strength of guidance is traced: all share one compilation."""

    def positive(z: Samples, logsnr: LogSnr) -> Samples:
        return denoiser(params, z, logsnr, condition)

    def negative(z: Samples, logsnr: LogSnr) -> Samples:
        if worse is not None and worse_params is not None:
            return worse(worse_params, z, logsnr, condition)
        null = denoiser.network.config.condition.null(len(z))
        return denoiser(params, z, logsnr, null if prompt is None else prompt)

    images = samplers.sample_guided(
        keys,
        positive,
        None if kind is Negative.NONE else negative,
        denoiser.network.config.image_shape,
        plan=plan,
        weight=weight,
        clip_x=clip_x,
    )
    return to_uint8(images)
