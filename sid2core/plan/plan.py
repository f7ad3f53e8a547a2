"""The cost of a model and its training, and what fits on which hardware."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sid2core import config
from sid2core.conditioning import ConditionSpec
from sid2core.config import build, negative
from sid2core.models import cost
from sid2core.models.execution import Execution, Remat
from sid2core.models.network import Network
from sid2core.plan import captions, counting, distillation, memory
from sid2core.plan.captions import FrozenText
from sid2core.plan.counting import Level, Term
from sid2core.plan.distillation import Distillation, Model, Student
from sid2core.plan.hardware import Hardware
from sid2core.plan.memory import Activations

ZETTA = 1e21
FLOPS_A_PRODUCT = 1e9
USABLE = 0.9
"""Share of a device's memory for training; the rest is for the runtime and for copies."""


@dataclass(frozen=True)
class Negative:
    """The cost of the model of ``train_negative``; units as in :class:`Price`."""

    parameters: int
    gflops: float
    examples: int

    @property
    def training_zettaflops(self) -> float:
        """As :attr:`Price.training_zettaflops`."""
        return _training_zettaflops(self.gflops, self.examples)


@dataclass(frozen=True)
class Price:
    """The cost of a network on any hardware; FLOPs are multiply-adds."""

    shape: tuple[int, ...]
    """Of an example, its given frames included."""
    given_frames: int
    classes: int | None
    parameters: int
    gflops: float
    """A forward pass of one example by SiD2 supplement B.3."""
    gflops_xla: float
    """The same by XLA's own analysis of the compiled program."""
    levels: tuple[Level, ...]
    terms: tuple[Term, ...]
    state_bytes: int
    gradient_bytes: int
    activations: tuple[Activations, ...]
    sampling_bytes: int
    """Memory for drawing one example, beside the weights."""
    drawn: int
    """Examples that are drawn at once."""
    examples: int
    """Number of training examples, with repetitions."""
    text: FrozenText | None
    """The frozen text encoder, if there is one."""
    vocabulary: int | None = None
    """Token ids of a learned text encoder; parameters and memory include its embeddings."""
    accumulation: int = 1
    """Parts of a batch of training, computed one after another."""
    negative: Negative | None = None
    """The model that is trained to be a negative, if there is one."""
    distillation: Distillation | None = None
    """None for a form whose cost is not known."""

    @property
    def training_zettaflops(self) -> float:
        """Three times a forward pass for every training example."""
        return _training_zettaflops(self.gflops, self.examples)


@dataclass(frozen=True)
class Fit:
    """One way to train on given devices, and the largest batch per device."""

    remat: Remat
    sharded: bool
    """Whether parameters, average and moments are divided over the devices (FSDP)."""
    most: int
    """Largest number of examples per device; 0 if not even the state fits."""
    bytes: int
    """Bytes per device for its share of the batch."""


@dataclass(frozen=True)
class Plan:
    """The cost on given hardware."""

    price: Price
    hardware: Hardware
    devices: int
    batch: int
    remat: Remat
    utilisation: float
    fits: tuple[Fit, ...]
    distill_fits: tuple[Fit, ...] = ()
    """The same for distillation; empty where its cost is not known."""

    @property
    def days(self) -> float:
        """Expected training time at the stated utilisation, recomputation included."""
        return self._days(self.price.training_zettaflops)

    @property
    def negative_days(self) -> float | None:
        """The same of the model of ``train_negative``; None if there is none."""
        negative = self.price.negative
        return None if negative is None else self._days(negative.training_zettaflops)

    def _days(self, zettaflops: float) -> float:
        return self._elapsed(zettaflops * (self._recomputed + 3) / 3)

    def _elapsed(self, zettaflops: float) -> float:
        """Days, for FLOPs with recomputation."""
        rate = self.devices * self.hardware.flops * self.utilisation
        return zettaflops * ZETTA / rate / 86_400

    @property
    def _recomputed(self) -> float:
        """Forward passes that each backward pass repeats."""
        return next(one for one in self.price.activations if one.remat is self.remat).forwards - 1

    def student_days(self, student: Student) -> float:
        """Expected time of the training of a student of ``price.distillation``."""
        made = self.price.distillation
        assert made is not None, "its student was given"
        return self._elapsed(made.zettaflops(student, self._recomputed))

    @property
    def distill_local(self) -> int:
        """Examples per device that distillation computes at once."""
        made = self.price.distillation
        assert made is not None, "who asks has seen its cost"
        return math.ceil(made.batch / made.accumulation / self.devices)

    @property
    def distill_chosen(self) -> Fit:
        """As :attr:`chosen`, of distillation."""
        return _chosen(self.distill_fits, self.remat)

    @property
    def caption_seconds(self) -> float | None:
        """Expected seconds to encode a caption of the greatest length; None without an encoder."""
        if self.price.text is None:
            return None
        products = self.price.text.cost.gflops * FLOPS_A_PRODUCT
        return products / (self.devices * self.hardware.flops * self.utilisation)

    @property
    def local(self) -> int:
        """Examples of the batch per device that are computed at once."""
        return math.ceil(self.batch / self.price.accumulation / self.devices)

    @property
    def chosen(self) -> Fit:
        """The choice of ``runtime.remat``, with the state replicated on every device."""
        return _chosen(self.fits, self.remat)

    @property
    def fitting(self) -> bool:
        """Whether the batch fits without a change."""
        return self.chosen.most >= self.local


def price(
    params: config.Params,
    shape: tuple[int, ...],
    condition: ConditionSpec,
    attention: str | None = None,
) -> Price:
    """The cost of the model of ``params`` on examples of ``shape``, and of its training.

    Args:
        params: the parameters.
        shape: of one example, channels last.
        condition: what the model is conditioned on.
        attention: the implementation whose memory is counted; by default the one that
            ``runtime.attention`` selects on this machine.
    """
    network = Network(build.network(params.model, shape, condition), _execution(params, attention))
    shapes, xla = network.shapes(), counting.xla_gflops(network.config)
    found = _negative(params, shape, condition)
    return Price(
        shape=tuple(shape),
        given_frames=network.config.given_frames,
        classes=condition.classes,
        parameters=counting.parameters(shapes),
        gflops=cost.forward_gflops(network.config),
        gflops_xla=xla,
        levels=tuple(counting.levels(network.config, shapes)),
        terms=tuple(counting.terms(network.config, xla)),
        state_bytes=memory.state_bytes(shapes, len(params.train.emas or ())),
        gradient_bytes=memory.gradient_bytes(shapes),
        activations=tuple(memory.activations(network)),
        sampling_bytes=memory.sampling_bytes(network),
        drawn=params.sampling.batch_size,
        examples=params.train.steps * params.train.batch_size,
        text=captions.frozen(params.text, condition.text),
        vocabulary=None if condition.text is None else condition.text.vocabulary,
        accumulation=params.train.accumulation,
        negative=found,
        distillation=distillation.price(
            params.distill,
            params.guidance_search.negatives,
            Model(cost.forward_gflops(network.config), memory.gradient_bytes(shapes)),
            None if found is None else Model(found.gflops, memory.FLOAT32 * found.parameters),
            conditional=bool(condition),
        ),
    )


def _negative(
    params: config.Params, shape: tuple[int, ...], condition: ConditionSpec
) -> Negative | None:
    if params.train_negative.steps is None:
        return None
    changed = negative.params_of(params)
    network = Network(build.network(changed.model, shape, condition))
    return Negative(
        counting.parameters(network.shapes()),
        cost.forward_gflops(network.config),
        changed.train.steps * changed.train.batch_size,
    )


def _training_zettaflops(gflops: float, examples: int) -> float:
    return gflops * FLOPS_A_PRODUCT * cost.FORWARDS_PER_TRAINING_STEP * examples / ZETTA


def on_hardware(
    price: Price, hardware: Hardware, devices: int, batch: int, remat: Remat, utilisation: float
) -> Plan:
    """The cost on given hardware: time, and what fits."""
    ways = [(one, sharded) for sharded in (False, True) for one in price.activations]
    # Parts have a gradient each, which is added to that of the parts before.
    base = price.state_bytes + price.gradient_bytes * (1 if price.accumulation == 1 else 2)

    def fits(state: int, batch: int) -> tuple[Fit, ...]:
        return tuple(_fit(state, one, hardware, devices, batch, sharded) for one, sharded in ways)

    made, distilled = price.distillation, tuple[Fit, ...]()
    if made is not None:
        at_once = math.ceil(made.batch / made.accumulation)
        distilled = fits(made.state_bytes + made.gradient_bytes, at_once)
    found = fits(base, math.ceil(batch / price.accumulation))
    return Plan(price, hardware, devices, batch, remat, utilisation, found, distilled)


def _execution(params: config.Params, attention: str | None) -> Execution:
    settings: dict[str, Any] = vars(build.execution(params.runtime)).copy()
    return Execution(**(settings | ({} if attention is None else {"attention": attention})))


def _fit(
    state: int,
    activations: Activations,
    hardware: Hardware,
    devices: int,
    batch: int,
    sharded: bool,
) -> Fit:
    """One way, for ``state`` bytes of state and gradient."""
    fixed = math.ceil(state / (devices if sharded else 1))
    most = max(0, int((USABLE * hardware.memory - fixed) // activations.total))
    needed = fixed + math.ceil(batch / devices) * activations.total
    return Fit(activations.remat, sharded, most, needed)


def _chosen(fits: Sequence[Fit], remat: Remat) -> Fit:
    return next(one for one in fits if one.remat is remat and not one.sharded)


def cures(plan: Plan) -> list[str]:
    """Changes with which it fits, the cheapest in time first; empty if it fits already.

    Each change is sufficient by itself.
    """
    found = _cures(plan, plan.fits, plan.local, "train.batch_size")
    parts = _parts(plan)
    return [f"train.accumulation={parts}", *found] if found and parts else found


def _parts(plan: Plan) -> int | None:
    """The smallest accumulation with which the batch fits without another change; None if none."""
    price, step = plan.price, plan.batch // plan.devices
    if plan.batch % plan.devices:
        return None
    for parts in (one for one in range(2, step + 1) if step % one == 0):
        split = replace(price, accumulation=parts)
        changed = on_hardware(
            split, plan.hardware, plan.devices, plan.batch, plan.remat, plan.utilisation
        )
        if changed.fitting:
            return parts
    return None


def distill_cures(plan: Plan) -> list[str]:
    """The same for distillation."""
    if plan.price.distillation is None:
        return []
    name = "what is computed at once (distill.batch_size / distill.accumulation)"
    return _cures(plan, plan.distill_fits, plan.distill_local, name)


def _cures(plan: Plan, fits: Sequence[Fit], local: int, batch: str) -> list[str]:
    chosen = _chosen(fits, plan.remat)
    if chosen.most >= local:
        return []
    found = []
    for fit in _cheapest_first(fits):
        if fit.most >= local:
            changes = [f"runtime.remat={fit.remat.value}"] * (fit.remat is not plan.remat)
            changes += [f"runtime.mesh.data=1 and runtime.mesh.fsdp={plan.devices}"] * fit.sharded
            found.append(" and ".join(changes))
    most = max(fits, key=lambda fit: fit.most)
    for fit in (chosen, most):
        if 0 < fit.most < local:
            found.append(
                f"lower {batch} to {fit.most * plan.devices} "
                f"({fit.most} per device; remat {fit.remat.value}{', FSDP' * fit.sharded})"
            )
    if not found:
        found.append("more or larger devices: not even one example fits beside the state")
    return list(dict.fromkeys(found))


def _cheapest_first(fits: Sequence[Fit]) -> list[Fit]:
    order = list(Remat)
    return sorted(fits, key=lambda fit: (order.index(fit.remat), fit.sharded))
