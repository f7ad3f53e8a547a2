"""``sid2 preset``: set ``params.yaml`` to a preset, or list all presets."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from sid2core.config import presets

SUMMARY = "Set params.yaml to a preset of conf/, keeping its comments; or list the presets."
_HEADINGS = ("preset", "what", "GFLOPs", "parameters", "published FID")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("name", metavar="NAME", nargs="?", help="a preset: conf/NAME.yaml")
    what.add_argument("--list", action="store_true", help="a table of all presets")
    parser.add_argument("--dry-run", action="store_true", help="only print what would change")


def run(options: argparse.Namespace) -> None:
    """Print the table, or set ``params.yaml`` and print each value that changed."""
    if options.list:
        everything = [presets.read(name) for name in presets.names()]
        print("\n".join(_table([_HEADINGS, *map(_row, everything)])))
        return
    change = presets.change(presets.read(options.name))
    if not options.dry_run:
        change.write()
    print("\n".join(_said(change, options.name, options.dry_run)))


def _said(change: presets.Change, name: str, dry_run: bool) -> Iterator[str]:
    """The changes that were or would be made, and files that are missing."""
    count = len(change.differences)
    if not count:
        yield f"{change.path} has the values of {name} already"
    else:
        done = "would change" if dry_run else "changed"
        yield f"{change.path}: {count} value{'s' * (count != 1)} {done} for {name}"
    yield from (f"  {line}" for line in change.differences)
    source, extractors = change.params.data.source.settings, change.params.eval.extractors.active
    data = [getattr(source, key, None) for key in ("path", "eval_path")]
    weights = [getattr(settings, "weights", None) for settings in extractors.values()]
    for place in (*data, *weights):
        if place is not None and not Path(place).exists():
            yield f"{place} is not there yet: dvc repro will need it"


def _row(preset: presets.Preset) -> tuple[str, ...]:
    evidence = preset.evidence
    fid = evidence.published.fid
    return (
        preset.name,
        evidence.title,
        f"{evidence.gflops_forward:.4g}",
        f"{evidence.parameters:,}",
        "-" if fid is None else f"{fid:.2f}",
    )


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as their widest entry: two of text, then numbers, aligned right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells)
