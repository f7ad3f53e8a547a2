"""Images drawn step by step: predictions are shown as they come, and known pixels are kept.

The steps are those of :func:`sid2core.diffusion.samplers.sample_guided`, with the same random keys;
here each is a call of a compiled function, which serves any number of steps, any seed and any
strength of guidance. So a server compiles little, and a drawing can be stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from sid2core import conditioning, rng
from sid2core.conditioning import Condition
from sid2core.data.load.pixels import to_uint8
from sid2core.diffusion import samplers
from sid2core.diffusion.clipping import ClipX
from sid2core.diffusion.guidance import Negative
from sid2core.diffusion.samplers import stepping
from sid2core.inference import negatives
from sid2core.inference.denoiser import Denoiser
from sid2core.inference.generator import Method
from sid2core.inference.negatives import WorseModel
from sid2core.models.network import Parameters
from sid2core.typing import Array, LogSnr, Samples

OnStep = Callable[[int, int, Array], None]
"""``on_step(step, steps, x_hat)`` after each step: its number from 1, how many there are, and the
prediction [b, …] of the batch that is drawn, float32 in about [-1, 1], on the device. What it
raises ends the drawing."""


@dataclass(frozen=True, eq=False)
class Edit:
    """A picture to start from."""

    init: NDArray[np.float32]
    """x [h, w, c] or [f, h, w, c] in [-1, 1]."""
    strength: float
    """The time of the first step; 1 is noise alone."""
    mask: NDArray[np.float32] | None = None
    """[h, w, 1]: 1 where pixels are drawn, 0 where those of ``init`` are kept."""
    repeats: int = 1
    """How often each step is done with a mask."""


@dataclass(frozen=True, eq=False)
class Stepwise:
    """As :class:`~sid2core.inference.generator.Generator`, one compiled step at a time.

    The images are the same up to rounding: fewer steps are fused into one program.

    Attributes:
        method: how images are drawn.
        params: the weights.
        batch_size: images in one call.
        worse: the negative of autoguidance.
        edit: the picture to start from; None for noise.
    """

    method: Method
    params: Parameters
    batch_size: int
    worse: WorseModel | None = None
    edit: Edit | None = None

    def images(
        self,
        stream: Array,
        indices: NDArray[np.integer],
        condition: Condition,
        on_step: OnStep,
    ) -> NDArray[np.uint8]:
        """Images [n, h, w, c] or whole clips, each from the key (``stream``, its index).

        Raises:
            NegativeError: the guidance needs a negative that is not there.
        """
        spec = self.method.denoiser.network.config.condition
        negatives.check(self.method.guidance, spec, self.worse)
        count = len(indices)
        batches = math.ceil(count / self.batch_size)
        place = np.arange(batches * self.batch_size) % count
        keys = rng.keys(stream, indices[place])
        padded, steps = conditioning.taken(condition, place), self._plan.steps
        drawn = []
        for batch in range(batches):
            part = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
            real = min(self.batch_size, count - part.start)
            predictions = self.predictions(keys[part], conditioning.taken(padded, part))
            for step, x_hat in enumerate(predictions, batch * steps + 1):
                on_step(step, batches * steps, x_hat[:real])
            drawn.append(np.asarray(to_uint8(x_hat))[:real])
        return conditioning.whole(np.concatenate(drawn), condition)

    @property
    def _plan(self) -> samplers.SamplingPlan:
        plan = self.method.plan
        t_start = 1.0 if self.edit is None else self.edit.strength
        return samplers.SamplingPlan(
            plan.sampler, plan.steps, plan.schedule, plan.interval, t_start
        )

    def predictions(
        self, keys: Array, condition: Condition, negative: Condition | None = None
    ) -> Iterator[Samples]:
        """The prediction x_hat [b, …] after each step, on the device; the last is the result.

        Args:
            keys: one typed PRNG key for each image, [b].
            condition: of the images, [b, …].
            negative: what guidance pushes away from, [b, …]; None is the null condition.
        """
        method, plan, edit = self.method, self._plan, self.edit
        shape = method.denoiser.network.config.image_shape
        logsnr = np.asarray(plan.logsnr, np.float32)
        known = None
        if edit is not None:
            known = jnp.broadcast_to(jnp.asarray(edit.init), (len(keys), *shape))
        drawn = _first(method.sampler, shape, keys, known, logsnr[0])
        models = self.params, None if self.worse is None else self.worse.params
        weight = np.float32(method.guidance.weight)
        mask = None if edit is None else edit.mask
        repeats = 1 if edit is None or mask is None else edit.repeats
        for run in plan.runs:
            for step in range(run.start, run.stop):
                levels = logsnr[step], logsnr[step + 1]
                for repeat in range(repeats if step + 1 < plan.steps else 1):
                    if repeat:
                        drawn = _again(drawn, keys, step, repeat, levels)
                    drawn = _advance(
                        *(self._setting, run.guided, models, weight),
                        *(drawn, keys, step, repeat, levels, condition, negative),
                    )
                    if mask is not None and known is not None:
                        drawn = _keep(drawn, keys, step, repeat, levels[1], known, mask)
                yield drawn.x_hat

    @property
    def _setting(self) -> _Setting:
        guidance = self.method.guidance
        kind = Negative.NONE if guidance.weight == 0.0 else guidance.negative
        worse = self.worse if kind is Negative.WORSE_MODEL else None
        return _Setting(
            self.method.denoiser,
            self.method.sampler,
            self.method.clip_x,
            kind,
            None if worse is None else worse.denoiser,
        )


@dataclass(frozen=True)
class _Setting:
    """What a compiled step depends on."""

    denoiser: Denoiser
    sampler: samplers.Sampler
    clip_x: ClipX
    kind: Negative
    worse: Denoiser | None


@partial(jax.jit, static_argnums=(0, 1))
def _first(
    sampler: samplers.Sampler,
    shape: tuple[int, ...],
    keys: Array,
    known: Array | None,
    logsnr: Any,
) -> stepping.Drawn:
    return stepping.first(keys, sampler, shape, known, jnp.broadcast_to(logsnr, keys.shape))


@partial(jax.jit, static_argnums=(0, 1))
def _advance(
    setting: _Setting,
    guided: tuple[bool, ...],
    models: tuple[Parameters, Parameters | None],
    weight: Any,
    drawn: stepping.Drawn,
    keys: Array,
    step: Any,
    repeat: Any,
    levels: tuple[Any, Any],
    condition: Condition,
    negative: Condition | None,
) -> stepping.Drawn:
    params, worse_params = models
    if negative is None:
        negative = setting.denoiser.network.config.condition.null(keys.shape[0])

    def wanted(z: Samples, logsnr: LogSnr) -> Samples:
        return setting.denoiser(params, z, logsnr, condition)

    def unwanted(z: Samples, logsnr: LogSnr) -> Samples:
        if setting.worse is not None and worse_params is not None:
            return setting.worse(worse_params, z, logsnr, condition)
        return setting.denoiser(params, z, logsnr, negative)

    return stepping.advance(
        drawn,
        stepping.repeated(keys, repeat),
        step,
        _levels(levels, keys),
        wanted,
        None if setting.kind is Negative.NONE else unwanted,
        sampler=setting.sampler,
        guided=guided,
        weight=weight,
        clip_x=setting.clip_x,
    )


@jax.jit
def _again(
    drawn: stepping.Drawn, keys: Array, step: Any, repeat: Any, levels: tuple[Any, Any]
) -> stepping.Drawn:
    """Back to the start of a step."""
    own = stepping.repeated(keys, 2 * repeat + _AGAIN)
    eps = stepping.noise(own, step, drawn.z.shape[1:])
    return drawn._replace(z=stepping.noised_again(drawn.z, eps, _levels(levels, keys)))


@jax.jit
def _keep(
    drawn: stepping.Drawn,
    keys: Array,
    step: Any,
    repeat: Any,
    logsnr: Any,
    known: Array,
    mask: NDArray[np.float32] | Array,
) -> stepping.Drawn:
    """With the known pixels: under noise in z, clean in the prediction."""
    own = stepping.repeated(keys, 2 * repeat + _AGAIN + 1)
    eps = stepping.noise(own, step, drawn.z.shape[1:])
    level = jnp.broadcast_to(logsnr, keys.shape)
    z = stepping.replaced(drawn.z, known, jnp.asarray(mask), eps, level)
    return drawn._replace(z=z, x_hat=jnp.where(mask > 0.5, drawn.x_hat, known))


_AGAIN = 2**16
"""Numbers of the streams of :func:`_again` and :func:`_keep`, above those of the repetitions."""


def _levels(levels: tuple[Any, Any], keys: Array) -> tuple[LogSnr, LogSnr]:
    start, end = (jnp.broadcast_to(one, keys.shape) for one in levels)
    return start, end
