"""The runs of a study: one for each variant and seed, with its parameters and its name.

A run is named by the study, the variant, the seed and a digest of the parameters of all stages up
to its target. The record of a finished run is the DVC experiment of this name. So a changed
parameter reruns the variants that it changes, and nothing else decides what is finished.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sid2core import config
from sid2core.config import checks, presets, yaml_edit
from sid2core.pipeline import dag
from sid2core.pipeline.dag import Declared
from sid2core.studies import study as study_file
from sid2core.studies.errors import StudyError
from sid2core.studies.study import Study

_OF_FILES = frozenset({"params", "code", "source"})
"""Stages that check and hash files; they have no parameters of the method."""


@dataclass(frozen=True)
class Run:
    """One variant with one seed.

    Attributes:
        study: the study's name.
        variant: the variant's name.
        seed: the value of ``seed``.
        overlay: what it sets in ``params.yaml``: nested, every value of the preset included.
        params: the whole parameters, checked.
        stages: the stages up to the target → a digest of their parameters and of their inputs'.
        before: each of these stages → those that must end before it.
        target: the last stage.
    """

    study: str
    variant: str
    seed: int
    overlay: Mapping[str, Any]
    params: config.Params
    stages: Mapping[str, str]
    before: Mapping[str, frozenset[str]]
    target: str

    @property
    def name(self) -> str:
        """The name of its DVC experiment."""
        return f"{self.study}-{self.variant}-s{self.seed}-{self.stages[self.target][:8]}"

    @property
    def message(self) -> str:
        """The message of the experiment's commit."""
        return f"study {self.study}: {self.variant}, seed {self.seed}"


def all_of(name: str, study: Study, preset: str | None = None, root: Path = Path()) -> list[Run]:
    """All runs, seed by seed within a variant.

    Args:
        name: the study's name.
        study: its file.
        preset: takes the place of the file's preset; ``small_scale`` is then not applied.
        root: the project's root.

    Raises:
        StudyError: a value of the file is refused, or two variants have the same parameters.
        PresetError: there is no such preset.
    """
    declared = dag.read(root / dag.FILE)
    upstream = _upstream(study.target, declared)
    _check_measured(study, upstream, declared)
    before = _before(upstream, declared)
    base = _base(preset or study.preset, root)
    layers = [*([] if preset else [study.small_scale]), study.params]
    runs = []
    for variant, values in study.combinations().items():
        raw = study_file.resolved(base, [*layers, values])
        params = _checked(raw, f"{study_file.FOLDER}/{name}.yaml, variant {variant}")
        dumped = params.model_dump()
        for seed in study.seeds:
            own = {"seed": seed}
            stages = _digests(before, declared, dumped | own)
            one = params.model_copy(update=own)
            runs.append(Run(name, variant, seed, raw | own, one, stages, before, study.target))
    _check_distinct(runs)
    return runs


def _base(preset: str, root: Path) -> dict[str, Any]:
    """The present parameters with all values of the preset."""
    path = root / config.PARAMS_FILE
    try:
        current = yaml_edit.load(path.read_text(encoding="utf-8"))
    except (OSError, yaml_edit.OverlayError) as error:
        msg = f"{path} cannot be read ({error}); run from the project's root"
        raise StudyError(msg) from None
    return yaml_edit.merged(current, presets.read(preset, root / presets.FOLDER).params)


def _checked(raw: Mapping[str, Any], origin: str) -> config.Params:
    params = config.parse(raw, origin)
    checks.check(params, origin)
    return params


def _upstream(target: str, declared: Mapping[str, Declared]) -> list[str]:
    """The stages up to ``target``, each after those that it needs."""
    dag.stage(target, declared)
    makers = {path: name for name, one in declared.items() for path in one.outs}
    order: list[str] = []

    def visit(name: str) -> None:
        for path in declared[name].deps:
            if path in makers and makers[path] not in order:
                visit(makers[path])
        if name not in order:
            order.append(name)

    visit(target)
    return order


def _before(upstream: list[str], declared: Mapping[str, Declared]) -> dict[str, frozenset[str]]:
    """Each stage, without those that only check and hash files, and all that come before it."""
    makers = {path: name for name in upstream for path in declared[name].outs}
    before: dict[str, frozenset[str]] = {}
    for name in upstream:
        if name not in _OF_FILES:
            inputs = {makers[one] for one in declared[name].deps if one in makers} - _OF_FILES
            before[name] = frozenset(inputs).union(*(before[one] for one in inputs))
    return before


def _digests(
    before: Mapping[str, frozenset[str]],
    declared: Mapping[str, Declared],
    params: Mapping[str, Any],
) -> dict[str, str]:
    """Each stage: a digest of its parameters and of those of all stages before it."""
    own = {name: dag.tracked(declared[name].params, params) for name in before}
    return {
        name: hashlib.sha256(
            json.dumps([{one: own[one] for one in sorted({*earlier, name})}], default=str).encode()
        ).hexdigest()
        for name, earlier in before.items()
    }


def _check_measured(study: Study, upstream: list[str], declared: Mapping[str, Declared]) -> None:
    """Refuse files that no stage up to the target writes: those in git are of another run."""
    for measure in study.measure:
        if not any(measure.file in declared[name].outs for name in upstream):
            makers = [name for name, one in declared.items() if measure.file in one.outs]
            cure = f"set target to {makers[0]}" if makers else "name a metrics file of dvc.yaml"
            msg = f"measure {measure.name}: {measure.file} is not written by {study.target} or a "
            raise StudyError(f"{msg}stage before it; {cure}")


def _check_distinct(runs: list[Run]) -> None:
    seen: dict[str, Run] = {}
    for run in runs:
        other = seen.setdefault(run.stages[run.target], run)
        if other is not run:
            msg = f"the variants {other.variant} and {run.variant} have the same parameters for "
            raise StudyError(f"{msg}{run.target}; remove one")
