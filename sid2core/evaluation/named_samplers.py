"""The rows of ``eval.samplers``: samplers that are measured beside base, search and students."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from sid2core import config
from sid2core.config import build
from sid2core.config.named_samplers import NONE, SEARCHED, NamedSampler
from sid2core.config.search import NULL, TRAINED, USUAL
from sid2core.config.training import Ema
from sid2core.diffusion.guidance import Negative
from sid2core.evaluation.sampler_spec import SamplerSpec
from sid2core.inference import averages
from sid2core.inference.generator import Method
from sid2core.inference.guidance_search import Setting
from sid2core.inference.model import Trained
from sid2core.inference.searched import Models, Searched, hashes_of, other_model
from sid2core.pipeline.artifact import Artifact

_TITLES = {
    **{"ddpm": "DDPM", "ddim": "DDIM", "addim": "aDDIM"},
    **{"dpm_solver": "DPM-Solver++(2M)", "heun": "Heun"},
}
_log = logging.getLogger(__name__)


def specs(
    rows: Sequence[NamedSampler],
    model: Trained,
    found: Searched,
    sampling: config.Sampling,
    trained: Artifact | None = None,
) -> list[SamplerSpec]:
    """What draws each row. Rows whose negative does not exist are left out, which is logged.

    Args:
        rows: ``eval.named_samplers``.
        model: the base model.
        found: the best setting with guidance that ``guidance_search`` found.
        sampling: how predictions are clipped.
        trained: the artifact of ``train_negative``.

    Raises:
        WeightsError: an average, a snapshot or a folder's model is missing, or does not fit.
        ParamsError: not even one step fits into the network evaluations of a row.
    """
    models = dict[str, Models]()
    made = []
    for row in rows:
        source = _source(row)
        if source not in models:
            models[source] = Models(_base(row, model), trained)
        searched = _searched(row, models[source], found)
        missing = _missing(row, searched, model)
        if missing:
            _log.warning("eval.samplers: %s is left out: %s", row.name, missing)
            continue
        method = _method(row, searched, sampling)
        if searched.guidance.weight > 0 and not method.guided:
            reason = f"none of its {method.steps} steps lies in the interval of guidance"
            _log.warning("eval.samplers: %s is left out: %s", row.name, reason)
            continue
        series = _series(row, several=len({one.entry for one in rows}) > 1)
        title = f"{series}, {method.steps} step{'s' * (method.steps > 1)}"
        params, worse = searched.model.params, searched.worse
        made.append(SamplerSpec(row.name, title, method, params, worse=worse, series=series))
    return made


def weights_of(rows: Sequence[NamedSampler]) -> dict[str, str]:
    """The SHA-256 of the weights in each folder that rows name.

    Raises:
        WeightsError: there are no weights in such a folder.
    """
    return hashes_of({*_folders(rows)}, "eval.samplers")


def _folders(rows: Sequence[NamedSampler]) -> Iterator[str]:
    for row in rows:
        if isinstance(row.weights, str) and row.weights != USUAL:
            yield row.weights
        if not isinstance(row.guidance, str):
            negative = row.guidance.negative
            if isinstance(negative, str) and negative not in (NULL, TRAINED):
                yield negative


def _source(row: NamedSampler) -> str:
    """The same for rows whose models are read from one base."""
    return USUAL if isinstance(row.weights, Ema) else str(row.weights)


def _base(row: NamedSampler, model: Trained) -> Trained:
    """The model of a row, but for an average other than the usual one."""
    if isinstance(row.weights, int):
        net = model.denoiser.network
        return replace(model, params=averages.read(model.folder, net, None, row.weights))
    if isinstance(row.weights, Ema) or row.weights == USUAL:
        return model
    return other_model(Path(row.weights), model)


def _searched(row: NamedSampler, models: Models, found: Searched) -> Searched:
    """The models and the guidance of a row."""
    weights, guidance = row.weights, row.guidance
    average = f"{weights.kind} {weights.value}" if isinstance(weights, Ema) else USUAL
    if isinstance(guidance, str):
        plain = models.of(Setting(0.0, average=average))
        if guidance == NONE:
            return plain
        return replace(found, model=plain.model)
    low, high = guidance.interval or (None, None)
    negative = guidance.negative
    negative = f"step {negative}" if isinstance(negative, int) else negative
    setting = Setting(guidance.weight, low, high, negative=negative, average=average)
    return models.of(setting)


def _missing(row: NamedSampler, searched: Searched, model: Trained) -> str | None:
    """Why a row cannot be drawn; None if it can."""
    guidance = searched.guidance
    if row.guidance == SEARCHED and guidance.weight == 0.0:
        return "the search found no guidance"
    unconditional = guidance.weight > 0 and guidance.negative is Negative.UNCONDITIONAL
    if unconditional and not model.condition:
        return "the model has no condition, and so no unconditional negative"
    return None


def _method(row: NamedSampler, searched: Searched, sampling: config.Sampling) -> Method:
    """With the steps of the row, or as many as fit into its network evaluations."""
    sampler, clip_x = row.sampler.build(), build.clip_x(sampling)

    def of(steps: int) -> Method:
        return searched.model.method(sampler, searched.guidance, steps, clip_x=clip_x)

    if row.steps is not None:
        return of(row.steps)
    most = row.nfe or 0
    # With an interval, evaluations need not grow with the steps.
    for method in map(of, range(most, 0, -1)):
        if method.nfe <= most:
            return method
    msg = f"eval.samplers: {row.name} has {most} network evaluations, and one step takes more"
    raise config.ParamsError(f"{msg}: raise nfe")


def _series(row: NamedSampler, *, several: bool) -> str:
    """What rows have in common that differ in their steps only."""
    name = _TITLES.get(row.sampler.name, row.sampler.name)
    parts = [f"{row.entry.replace('_', ' ')}: {name}" if several else name]
    if row.guidance == SEARCHED:
        parts.append("guidance of the search")
    elif not isinstance(row.guidance, str):
        parts.append(f"guidance {row.guidance.weight:g}")
    return ", ".join(parts)
