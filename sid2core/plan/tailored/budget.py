"""How the time of a pipeline is divided, and how many samples each stage can afford.

A stage's time is its multiply-adds by the paper's count over the machine's rate, and what it takes
to start and to compile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sid2core.data.prepare.survey import Survey
from sid2core.plan.tailored.speed import Machine

TRAIN, SEARCH, DISTIL, EVALUATE = 0.55, 0.08, 0.12, 0.10
"""Shares of the whole time; the rest is for preparing, the feature extractor and starting."""
_START = 20.0
"""Seconds that a stage takes to start and to compile."""
_WEIGHTS, _TEXT_WEIGHTS, _INTERVALS = (0.5, 1.0), (1.0, 2.0), ((-3.0, 5.0),)
_STUDENT_STEPS = 8
_SAMPLES, _SEARCH_SAMPLES = (200, 10_000), (100, 4_000)
_ITERATIONS = (50, 20_000)
_DISTIL_FORWARDS = 12
"""Of one example in one iteration: the guided teacher 2, the student's sample 1, and the training
of the auxiliary network and of the student at 3 each, of which some serve both."""


@dataclass(frozen=True)
class Budget:
    """What the time allows.

    Attributes:
        overlay: the numbers of samples and iterations, nested as in ``params.yaml``.
        reasons: key → why.
        seconds: stage → expected time.
    """

    overlay: Mapping[str, Any]
    reasons: Mapping[str, str]
    seconds: Mapping[str, float]

    @property
    def total(self) -> float:
        """Seconds of the whole pipeline."""
        return sum(self.seconds.values())


def afford(
    found: Survey, machine: Machine, seconds: float, gflops: float, overlay: Mapping[str, Any]
) -> Budget:
    """The numbers of samples and iterations that fit into ``seconds``, and each stage's time.

    Args:
        found: the data.
        machine: what computes.
        seconds: for the whole pipeline.
        gflops: of a forward pass.
        overlay: the values chosen so far: ``train``, ``reference``, ``sampling``.
    """
    forward = gflops * 1e9 / machine.rate
    guided = found.captioned or bool(found.condition)
    weights = _TEXT_WEIGHTS if found.captioned else _WEIGHTS
    steps = overlay["sampling"]["steps"]
    sample = steps * forward
    cells = 1 + 2 * len(weights) * (1 + len(_INTERVALS)) if guided else 1
    drawn = (1 + 2 + 2 if guided else 1) * sample + _STUDENT_STEPS * forward
    search = within(SEARCH * seconds / (cells * sample), _SEARCH_SAMPLES)
    samples = within(EVALUATE * seconds / drawn, _SAMPLES)
    batch = min(128, max(32, overlay["train"]["batch_size"]))
    iteration = batch * _DISTIL_FORWARDS * forward
    scored = min(samples, 400)
    scoring = scored * ((1 + guided) * sample + _STUDENT_STEPS * forward)
    iterations = within((DISTIL * seconds - scoring) / iteration, _ITERATIONS)
    training = 3 * forward * overlay["train"]["steps"] * overlay["train"]["batch_size"]
    networks = 1 + found.captioned  # the extractor, and the judge of captions
    reference = networks * 3 * _reference_products(found, overlay) / machine.rate
    return Budget(
        overlay={
            "sampling": {"batch_size": 50 if machine.compute_dtype == "float32" else 256},
            "guidance_search": {
                "weights": list(weights),
                "intervals": [list(interval) for interval in _INTERVALS],
                "samples": search,
                "first": max(4, search // 4),
            },
            "distill": {
                "steps": [_STUDENT_STEPS],
                "iterations": iterations,
                "batch_size": batch,
                "score_samples": scored,
                "optimiser": {"warmup_steps": min(50, iterations // 4)},
            },
            "eval": {"samples": samples, "keep": min(samples, 1000)},
        },
        reasons={
            "guidance_search": (
                f"all samples of {cells} settings fit into {SEARCH:.0%} of the time; "
                "a race draws fewer"
            ),
            "distill": f"as many iterations as fit into {DISTIL:.0%} of the time",
            "eval": f"as many images as fit into {EVALUATE:.0%} of the time",
        },
        seconds={
            "prepare": _START + (found.train + (found.eval or 0)) * found.seconds / machine.cores,
            "reference": _START + reference,
            "train": _START + training,
            "guidance_search": _START + search * cells * sample,
            "distill": 2 * _START + scoring + iterations * iteration,
            "evaluate": _START + samples * drawn,
            "the rest": 2 * _START,
        },
    )


def within(number: float, bounds: tuple[int, int]) -> int:
    """The number between the bounds, rounded down to two digits."""
    low, high = bounds
    whole = int(min(high, max(low, number)))
    unit = 10 ** max(0, len(str(whole)) - 2)
    return whole // unit * unit


def _reference_products(found: Survey, overlay: Mapping[str, Any]) -> float:
    """Multiply-adds of all forward passes that train the data set's own feature extractor.

    Two convolutions of 3 x 3 a level, of which the first widens.
    """
    section, size = overlay["reference"], overlay["data"]["image_size"]
    products, before = 0, found.channels
    for level, channels in enumerate(section["channels"]):
        positions = (size >> level) ** 2
        products += 9 * positions * channels * (before + channels)
        before = channels
    return products * section["steps"] * section["batch_size"]
