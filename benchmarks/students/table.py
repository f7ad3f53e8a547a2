"""The document of :mod:`benchmarks.distillation`: its results as tables, with intervals."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from sid2core import atomic

Row = Mapping[str, Any]
LEVEL = 0.9
"""Confidence level of the intervals."""
ALWAYS = ("form.name", "states", "times", "eta")
"""Options that have a column even where all students have one value."""
_MEASURED = {
    "agreement": "class agreement",
    "precision": "precision",
    "recall": "recall",
    "coverage": "coverage",
}
_HEAD = """# Distillation: forms and options

Students of one teacher, beside samplers with as many network evaluations. `python -m
benchmarks.distillation` writes this file; the numbers are in `benchmarks/results/`.

- **fd**: Fréchet distance to the eval split, by the primary extractor; lower is better.
- **of the teacher**: fd over the teacher's of the same seed.
- **to the default**: fd less that of the project's own setting, same seed, noise and conditions.
- **to samplers of 4**: fd less that of the sampler with at most 4 network evaluations that is
  hardest to beat, which is named; below 0 the student is better. An interval below 0 means that it
  is below *every* such sampler, with and without guidance.
- Brackets: 90 % intervals, Student's t over seeds; of a single seed, that of paired samples.
- Precision, recall and coverage: of the train split's features (k = 3, 3 and 5). A student that
  loses modes has a low recall and coverage while its class agreement is high.
"""


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its interval; without one if there is a single seed."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def text(self, digits: int = 3) -> str:
        """Such as ``0.250 (0.200 to 0.300)``."""
        if math.isnan(self.low):
            return f"{self.value:.{digits}f}"
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def mean(values: Sequence[float]) -> Mean:
    """Of n values: mean ± t_{n−1} s / √n, with the quantile of Student's t."""
    middle = statistics.fmean(values)
    if len(values) < 2:
        return Mean(middle)
    scatter = statistics.stdev(values) / math.sqrt(len(values))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * scatter
    return Mean(middle, middle - reach, middle + reach)


def paired(differences: Sequence[Sequence[float]]) -> Mean:
    """The mean of [value, low, high] of each seed; of a single seed, its own interval."""
    if len(differences) == 1:
        return Mean(*differences[0])
    return mean([one[0] for one in differences])


def hardest(
    rows: Sequence[Row], evaluations: Mapping[str, int], most: int
) -> tuple[str, Mean] | None:
    """Of the samplers of ``most`` evaluations, that whose difference has the highest upper end.

    Args:
        rows: of one student, a row for each seed.
        evaluations: how many each sampler has at most, by its name.
        most: which of them to compare with.
    """
    equal = [name for name, count in evaluations.items() if count == most]
    found = {
        name: paired([row["to_samplers"][name] for row in rows])
        for name in equal
        if all(name in row["to_samplers"] for row in rows)
    }
    if not found:
        return None

    def upper(name: str) -> float:
        return found[name].value if math.isnan(found[name].high) else found[name].high

    name = max(found, key=upper)
    return name, found[name]


def to_default(rows: Sequence[Row], default: Sequence[Row]) -> Mean | None:
    """Of fd, the difference to the default of the same seed; None without such a row."""
    known = {row["seed"]: row["fd"] for row in default}
    differences = [row["fd"] - known[row["seed"]] for row in rows if row["seed"] in known]
    return mean(differences) if differences else None


def write(results: Path, document: Path) -> None:
    """Write the document from all ``distillation-*.json`` in a folder."""
    parts = [_HEAD]
    for path in sorted(results.glob("distillation-*.json")):
        parts += section(
            path.stem.removeprefix("distillation-"), json.loads(path.read_text("utf-8"))
        )
    atomic.write_text(document, "\n".join(parts))


def section(name: str, result: Mapping[str, Any]) -> list[str]:
    """The lines of one result file."""
    rows: list[Row] = result["rows"]
    of_kind = {kind: [row for row in rows if row["kind"] == kind] for kind in _KINDS}
    students, commands = of_kind["student"], "\n".join(result["commands"])
    lines = [
        f"## {name}",
        "",
        f"{result['samples']:,} samples of each; {result['device']}, JAX {result['jax']}.",
        "",
        f"```sh\n{commands}\n```",
        "",
        *_table(("teacher", "NFE", *_headings([])), [_others_line(of_kind["teacher"])]),
    ]
    groups = _grouped(of_kind["sampler"], "name")
    evaluations = {group[0]["name"]: group[0]["most"] for group in groups}
    columns = _options(students)
    teacher = {row["seed"]: row["fd"] for row in of_kind["teacher"]}
    for steps in sorted({row["steps"] for row in students}):
        some = _grouped([row for row in students if row["steps"] == steps], "setting")
        default = [row for group in some for row in group if row["setting"] == result["distill"]]
        seconds = statistics.median(row["seconds"] for group in some for row in group)
        lines += [f"### {steps} {'step' if steps == 1 else 'steps'}", ""]
        lines += [f"Training one took {seconds / 60:.1f} minutes (median).", ""]
        heads = (*map(_short, columns), "seeds", "fd", "of the teacher", "to the default")
        heads = (*heads, f"to samplers of {steps}", f"of {2 * steps}", *_MEASURED.values())
        by_fd = sorted(some, key=lambda group: statistics.fmean(row["fd"] for row in group))
        lines += _table(
            heads, [_line(group, columns, default, teacher, evaluations) for group in by_fd]
        )
    if groups:
        order = sorted(groups, key=lambda group: (group[0]["most"], group[0]["name"]))
        lines += ["### Samplers of the base model", ""]
        lines += _table(("sampler", "NFE", *_headings([])), map(_others_line, order))
    return lines


_KINDS = ("teacher", "student", "sampler")


def _headings(columns: Sequence[str]) -> tuple[str, ...]:
    return (*map(_short, columns), "seeds", "fd", *_MEASURED.values())


def _short(column: str) -> str:
    return "form" if column == "form.name" else column.removeprefix("form.").replace("_", " ")


def _options(students: Sequence[Row]) -> list[str]:
    """The options that have a column: those that differ between students, and :data:`ALWAYS`."""
    names = list(dict.fromkeys(key for row in students for key in row["setting"]))

    def differing(name: str) -> bool:
        known = [row["setting"][name] for row in students if name in row["setting"]]
        return len({json.dumps(value) for value in known}) > 1

    shown = [name for name in ALWAYS if name in names]
    return shown + [name for name in names if differing(name) and name not in shown]


def _grouped(rows: Iterable[Row], key: str) -> list[list[Row]]:
    """Rows that differ in their seeds only, in the order of their first."""
    found = dict[str, list[Row]]()
    for row in rows:
        found.setdefault(json.dumps(row[key], sort_keys=True), []).append(row)
    return list(found.values())


def _line(
    group: Sequence[Row],
    columns: Sequence[str],
    default: Sequence[Row],
    teacher: Mapping[int, float],
    evaluations: Mapping[str, int],
) -> list[str]:
    setting, steps = group[0]["setting"], group[0]["steps"]
    nearest = [hardest(group, evaluations, most) for most in (steps, 2 * steps)]
    own, same = to_default(group, default), setting in [row["setting"] for row in default]
    return [
        *(_value(setting.get(name)) for name in columns),
        str(len(group)),
        mean([row["fd"] for row in group]).text(),
        mean([row["fd"] / teacher[row["seed"]] for row in group]).text(2),
        "the default" if same else "" if own is None else own.text(),
        *("" if one is None else f"{one[1].text()} {one[0]}" for one in nearest),
        *_means(group),
    ]


def _others_line(group: Sequence[Row]) -> list[str]:
    first = group[0]
    fd = mean([row["fd"] for row in group]).text()
    return [first["name"], str(first["nfe"]), str(len(group)), fd, *_means(group)]


def _means(group: Sequence[Row]) -> list[str]:
    def text(name: str) -> str:
        known = [row[name] for row in group if row[name] is not None]
        return f"{statistics.fmean(known):.3f}" if known else "–"

    return [text(name) for name in _MEASURED]


def _value(value: Any) -> str:
    return "–" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]
