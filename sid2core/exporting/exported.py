"""What is exported: a model with the average of its weights, and how it is drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sid2core.diffusion import samplers
from sid2core.diffusion.clipping import StaticClip
from sid2core.diffusion.schedule import Cosine, CosineInterpolated, Schedule, ShiftedCosine
from sid2core.errors import Sid2Error
from sid2core.inference import checks, requested
from sid2core.inference.generator import Method
from sid2core.inference.model import Trained
from sid2core.inference.public import Model
from sid2core.inference.request import Request

SAMPLERS = {
    samplers.DDPM: "ddpm",
    samplers.Posterior: "posterior",
    samplers.DDIM: "ddim",
    samplers.ADDIM: "addim",
    samplers.DPMSolver: "dpm_solver",
    samplers.Heun: "heun",
}
"""The samplers of ``files/sampling.py``, and their names there."""
_KINDS = ("label", "text", "given")


class ExportError(Sid2Error):
    """The model cannot be exported so, or an export is not what it should be."""


@dataclass(frozen=True, eq=False)
class Exported:
    """A model as other programs get it: its activations are float32."""

    trained: Trained
    """Its weights are those of the request's average."""
    request: Request
    """Without None: the sampler, the steps, the guidance."""
    method: Method
    class_names: tuple[str, ...]

    @classmethod
    def of(cls, model: Model, request: Request) -> Exported:
        """The model with the choices of a request; what to draw is not read.

        Raises:
            ExportError: guidance pushes away from another model.
            SampleError: a student is to be guided.
            RequestError: as :meth:`Model.completed`.
        """
        if request.negative_model is not None:
            msg = f"guidance pushes away from another model, {request.negative_model}; an export "
            raise ExportError(
                f"{msg}has one network: give --guidance G, which replaces the search's"
            )
        checks.guidance(model.student_steps, request.guidance)
        request = model.completed(request)
        unknown = [name for name in model.condition.names if name not in _KINDS]
        if unknown:
            msg = f"the model takes {', '.join(unknown)}, from a plugin; expected at most "
            raise ExportError(f"{msg}{', '.join(_KINDS)}: exports know no others")
        requested.check(model.trained, request)
        found = requested.searched(model.trained, request)
        trained = found.model
        net = trained.denoiser.network
        net = replace(net, config=replace(net.config, compute_dtype="float32"))
        trained = replace(trained, denoiser=replace(trained.denoiser, network=net))
        chosen = request.sampler
        sampler = trained.student_sampler if chosen is None else chosen.build()
        method = trained.method(sampler, found.guidance, request.steps or 1, clip_x=StaticClip())
        return cls(trained, request, method, model.class_names)

    @property
    def settings(self) -> dict[str, Any]:
        """How to draw, as ``draw`` of ``files/sampling.py`` takes it.

        Raises:
            ExportError: the sampler or the schedule is not one of that file.
        """
        sampler, request = self.method.sampler, self.request
        if type(sampler) not in SAMPLERS:
            msg = f"sampler: found {type(sampler).__name__}; expected one of "
            raise ExportError(f"{msg}{', '.join(SAMPLERS.values())}: give --sampler NAME")
        return {
            "schedule": _schedule(self.trained.schedule),
            "prediction": str(self.trained.denoiser.prediction),
            "sampler": {"name": SAMPLERS[type(sampler)], **asdict(sampler)},  # type: ignore[call-overload]
            "steps": request.steps,
            "guidance": request.guidance,
            "interval": None if request.interval is None else list(request.interval),
        }

    @property
    def config(self) -> Mapping[str, Any]:
        """The whole ``config.json`` beside the weights."""
        return self.trained.config


def _schedule(schedule: Schedule) -> dict[str, Any]:
    """A cosine with a shift at each end, as all schedules of this project are."""
    if not isinstance(schedule, Cosine | ShiftedCosine | CosineInterpolated):
        msg = f"schedule: found {type(schedule).__name__}; expected a cosine of this project: "
        raise ExportError(f"{msg}exports know no others")
    low, high = schedule.logsnr_min, schedule.logsnr_max
    ends = schedule.logsnr_exact(np.array([0.0, 1.0]))
    shift = [float(end - own) for end, own in zip(ends, (high, low), strict=True)]
    return {"logsnr_min": low, "logsnr_max": high, "shift": shift}
