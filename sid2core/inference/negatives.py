"""Which negative a guidance needs, and whether it is there; nothing is ever put in its place."""

from __future__ import annotations

from dataclasses import dataclass

from sid2core.conditioning import Condition, ConditionSpec
from sid2core.diffusion.guidance import Guidance, Negative
from sid2core.errors import Sid2Error
from sid2core.inference.denoiser import Denoiser
from sid2core.models.network import Parameters


class NegativeError(Sid2Error):
    """A guidance needs a negative that was not given."""


@dataclass(frozen=True, eq=False)
class WorseModel:
    """The negative of autoguidance: a smaller model, or one from earlier in training."""

    denoiser: Denoiser
    params: Parameters


def check(
    guidance: Guidance,
    spec: ConditionSpec,
    worse: WorseModel | None = None,
    prompt: Condition | None = None,
) -> None:
    """Refuse guidance whose negative is missing.

    Args:
        guidance: names its negative.
        spec: what the model is conditioned on; its null is the unconditional negative.
        worse: the worse model, if there is one.
        prompt: the condition to push away from, if there is one.

    Raises:
        NegativeError: names what is missing.
    """
    missing = {
        Negative.UNCONDITIONAL: not spec,
        Negative.WORSE_MODEL: worse is None,
        Negative.PROMPT: prompt is None,
    }
    if guidance.weight == 0.0 or not missing.get(guidance.negative, False):
        return
    cure = {
        Negative.UNCONDITIONAL: "the null condition, but the model is unconditional: "
        "use NoGuidance() or a worse model",
        Negative.WORSE_MODEL: "a worse model: pass it as worse=WorseModel(denoiser, params)",
        Negative.PROMPT: "another condition: pass it as negative=",
    }
    msg = f"{guidance} needs as its negative {cure[guidance.negative]}"
    raise NegativeError(msg)
