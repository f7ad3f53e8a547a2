"""Students of one teacher by form and options of distillation, beside samplers of equal cost.

    python -m benchmarks.distillation [--artifacts artifacts] [--seeds 3] [--steps 1 2 4 8]
        [--form …] [--states …] [--times …] [--eta …] [--also distill.dropout=0.1 …]
        [--iterations N] [--samples 2000] [--samplers]

It takes the folder of artifacts of a project after ``dvc repro guidance_search``, with the
``params.yaml`` beside it. The settings are all combinations of the values that are given for form,
states, times and eta; a key that is not given keeps the project's value. Each ``--also`` adds one
setting, the project's own with these keys changed. A setting is trained for every number of steps
and every seed, by the functions of the stage ``distill``. All samples of a seed have the same noise
and conditions, so differences of distances are paired.

After each student the result is in ``benchmarks/results/distillation-NAME.json`` and the table in
``docs/results/distillation.md``, which has a section for every such result. Started again, the
command trains only what is missing: the student under way continues from its last checkpoint.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("benchmark")  # keeps compiled programs: seeds share them

import jax

from benchmarks.common import RESULTS
from benchmarks.students import table
from benchmarks.students.project import SAMPLERS, TEACHER, Measuring, Project, Scores
from sid2core import atomic, config
from sid2core.config import yaml_edit, yaml_read
from sid2core.distillation.trainer import Student
from sid2core.pipeline import artifact, places

AXES = {"form": "distill.form.name", "states": "distill.states", "times": "distill.times"}
AXES |= {"eta": "distill.eta"}
"""The options that are combined, and their keys."""
_OTHERS = ("steps", "score_samples", "teacher")
"""Keys of ``distill`` that do not change how a student of given steps is trained."""
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "results" / "distillation.md"


class Result:
    """A result file: what was measured, one row a line, written after every row."""

    def __init__(self, path: Path, about: Mapping[str, Any]):
        """Continue the file, if it is of the same artifacts and number of samples.

        Raises:
            SystemExit: it is of others.
        """
        self.path, self.rows = path, list[dict[str, Any]]()
        commands = [about["command"]]
        if path.exists():
            old = json.loads(path.read_text(encoding="utf-8"))
            for key in ("inputs", "samples"):
                if old[key] != about[key]:
                    sys.exit(
                        f"{path} is of other {key}, {old[key]}; expected {about[key]}: give "
                        "another --name, or delete the file"
                    )
            self.rows, commands = old["rows"], [*old["commands"], *commands]
        self._commit = about["commit"]
        self._head = {"commands": list(dict.fromkeys(commands))}
        self._head |= {key: value for key, value in about.items() if key != "command"}

    def has(self, key: Mapping[str, Any]) -> bool:
        """Whether a row has these values."""
        return any(key.items() <= row.items() for row in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        """Write one more row."""
        self.rows.append(row | {"commit": self._commit[:12]})
        print(_summary(row), flush=True)
        head = json.dumps(self._head, indent=2).removesuffix("\n}")
        lines = ",\n".join(f"    {json.dumps(one)}" for one in self.rows)
        atomic.write_text(self.path, f'{head},\n  "rows": [\n{lines}\n  ]\n}}\n')


def settings(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The keys that each setting changes, by their full names; every setting once."""
    given = {key: getattr(options, name) for name, key in AXES.items() if getattr(options, name)}
    made = [dict(zip(given, values, strict=True)) for values in itertools.product(*given.values())]
    made += [dict(map(_pair, one.split(","))) for one in options.also]
    return [one for index, one in enumerate(made) if one not in made[:index]]


def _pair(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key.startswith("distill."):
        sys.exit(f"--also {text}: expected distill.KEY=VALUE")
    return key, yaml_read.load(value)


def changed(raw: Mapping[str, Any], changes: Mapping[str, Any]) -> config.Params:
    """The parameters with some keys changed.

    Raises:
        ParamsError: a key or a value is unknown.
    """
    for key, value in changes.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        raw = yaml_edit.merged(raw, value)
    return config.parse(raw)


def main() -> None:
    """Train, measure, and write the result and the table after every student."""
    options = _options()
    path = options.artifacts.parent / config.PARAMS_FILE
    path = path if path.exists() else config.PARAMS_FILE
    raw = yaml_read.load(path.read_text(encoding="utf-8"))
    if options.iterations:
        raw = yaml_edit.merged(raw, {"distill": {"iterations": options.iterations}})
    # All settings are checked before the first is trained.
    chosen = [changed(raw, one).distill for one in settings(options)]
    project = Project.load(config.parse(raw), options.artifacts)
    params = project.params
    about = {
        "command": f"python -m benchmarks.distillation {_given(options)}".strip(),
        "commit": subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip(),
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "data": params.data.source.name,
        "inputs": project.digests,
        "samples": options.samples,
        "distill": flat(params.distill),
    }
    name = options.name or params.data.source.name
    result = Result(options.results / f"distillation-{name}.json", about)
    about_work = [about["inputs"], about["commit"], options.samples]
    work = places.work() / "benchmarks" / f"distillation-{_short(about_work)}"
    for seed in range(options.seeds):
        measuring = Measuring(project, seed, options.samples, work / f"seed-{seed}")
        others = _others(measuring, options, result)
        for one in chosen:
            chain = _Chain(project, one, seed, sorted(options.steps, reverse=True), work)
            for steps in chain.steps:
                row = {"kind": "student", "steps": steps, "seed": seed, "setting": flat(one)}
                if not result.has(row):
                    result.add(row | _trained(measuring, chain, steps, others))
                    table.write(options.results, options.document)
            chain.clean()
    table.write(options.results, options.document)


@dataclass(frozen=True, eq=False)
class _Chain:
    """The students of one setting, the one with the most steps first.

    With ``distill.from_student`` one starts from that with twice the steps. So all are kept until
    the last is trained; those that an earlier command has measured are trained again if needed.
    """

    project: Project
    settings: config.Distill
    seed: int
    steps: Sequence[int]
    work: Path
    made: dict[int, Student] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Of checkpoints and samples."""
        return self.work / f"seed-{self.seed}-{_short(flat(self.settings))}"

    def student(self, steps: int) -> Student:
        """The student of so many steps, trained once."""
        if steps not in self.made:
            twice = self.settings.from_student and 2 * steps in self.steps
            start = self.student(2 * steps) if twice else None
            self.made[steps] = self.project.student(
                self.settings, steps, self.seed, self.folder, start
            )
        return self.made[steps]

    def clean(self) -> None:
        """Delete what is only needed to continue."""
        shutil.rmtree(self.folder, ignore_errors=True)


def flat(section: config.Distill) -> dict[str, Any]:
    """What shapes a student of given steps: the section's values by their names below it."""
    values = dict(yaml_edit.leaves(section.model_dump(mode="json")))
    return {key: value for key, value in values.items() if key not in _OTHERS}


def _others(
    measuring: Measuring, options: argparse.Namespace, result: Result
) -> dict[str, tuple[int, Scores]]:
    """The most network evaluations, and the scores, of the teacher and of samplers by name."""
    project, found = measuring.project, dict[str, tuple[int, Scores]]()
    evaluations = options.nfe or sorted({*options.steps, *(2 * one for one in options.steps)})
    teacher = project.teacher()
    samplers = project.samplers(options.samplers, evaluations)
    for most, spec in [(teacher.method.nfe, teacher), *samplers]:
        scores = measuring.scores(spec)
        found[spec.name] = (most, scores)
        kind = TEACHER if spec.name == TEACHER else "sampler"
        row = {"kind": kind, "name": spec.name, "seed": measuring.seed}
        if not result.has(row):
            result.add(row | {"most": most, "nfe": spec.method.nfe} | _rounded(scores))
    return found


def _trained(
    measuring: Measuring,
    chain: _Chain,
    steps: int,
    others: Mapping[str, tuple[int, Scores]],
) -> dict[str, Any]:
    """A student's row: its scores, and how much nearer or further it is than others."""
    since = time.monotonic()
    student = chain.student(steps)
    seconds = time.monotonic() - since
    spec = measuring.project.sampler(chain.settings, student, steps)
    scores = measuring.scores(spec, chain.folder / "samples")
    _, teacher = others[TEACHER]
    return {
        "nfe": spec.method.nfe,
        **_rounded(scores),
        "to_teacher": scores.below(teacher),
        "to_samplers": {
            name: scores.below(other)
            for name, (most, other) in others.items()
            if name != TEACHER and most in (steps, 2 * steps)
        },
        "seconds": round(seconds, 1),
    }


def _summary(row: Mapping[str, Any]) -> str:
    names = ("kind", "name", "steps", "seed", "nfe", "fd", "agreement", "recall", "seconds")
    return ", ".join(f"{name} {row[name]}" for name in names if name in row)


def _rounded(scores: Scores) -> dict[str, float | None]:
    values = scores.values.items()
    return {name: None if value is None else round(value, 6) for name, value in values}


def _short(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--artifacts", type=Path, default=artifact.ROOT)
    parser.add_argument("--name", help="of the result; default: the name of the data's source")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8])
    for name, key in AXES.items():
        parser.add_argument(f"--{name}", nargs="+", type=yaml_read.load, help=f"values of {key}")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="KEY=VALUE[,KEY=VALUE…]",
        help="one more setting: the project's own with these keys changed; may be repeated",
    )
    parser.add_argument("--iterations", type=int, help="default: distill.iterations")
    parser.add_argument("--samples", type=int, default=2000, help="by which each is measured")
    parser.add_argument(
        "--samplers",
        nargs="*",
        default=[],
        choices=SAMPLERS,
        help="samplers to compare with; all five if no name follows",
    )
    parser.add_argument(
        "--nfe",
        type=int,
        nargs="+",
        help="their network evaluations; default: the steps of students, and twice as many",
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    options = parser.parse_args()
    if "--samplers" in sys.argv and not options.samplers:
        options.samplers = [*SAMPLERS]
    return options


def _given(options: argparse.Namespace) -> str:
    """The options on the command line that decide the numbers."""
    names = ("seeds", "steps", *AXES, "iterations", "samples", "samplers", "nfe")
    words = []
    for name in names:
        value = getattr(options, name)
        if value not in (None, []):
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    for one in options.also:
        words += ["--also", one]
    return shlex.join(words)


if __name__ == "__main__":
    main()
