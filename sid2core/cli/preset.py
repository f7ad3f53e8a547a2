"""``sid2 preset``: set ``params.yaml`` to a preset, make one for data, or list all presets."""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sid2core import config
from sid2core.cli.plan import positive
from sid2core.config import presets, yaml_edit
from sid2core.plan.hardware import SHEETS

_DEFAULT_SECONDS = 1800.0
_HEADINGS = ("preset", "what", "GFLOPs", "parameters", "published FID")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("name", metavar="NAME", nargs="?", help="a preset: conf/NAME.yaml")
    what.add_argument("--for", dest="data", metavar="PATH", help="make a preset for these data")
    what.add_argument("--list", action="store_true", help="a table of all presets")
    own = parser.add_argument_group("with --for")
    own.add_argument(
        "--time",
        metavar="T",
        type=_seconds,
        help="for the whole pipeline: 30m, 2h, 1d (default 30m)",
    )
    own.add_argument("--device", choices=tuple(SHEETS), help="plan for it instead of this machine")
    own.add_argument("--size", metavar="N", type=positive, help="side of the images in pixels")
    own.add_argument(
        "--name", dest="called", metavar="NAME", help="of the preset (default: after the path)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only print what would change")


def run(options: argparse.Namespace) -> None:
    """Print the table, or set ``params.yaml`` and print each value that changed."""
    if options.list:
        everything = [presets.read(name) for name in presets.names()]
        print("\n".join(_table([_HEADINGS, *map(_row, everything)])))
        return
    if options.data is not None:
        preset = _made(options)
    elif options.time or options.device or options.size:
        msg = "--time, --device and --size need --for PATH"
        raise presets.PresetError(msg)
    else:
        preset = presets.read(options.name)
    change = presets.change(preset)
    if not options.dry_run:
        change.write()
    print("\n".join(_said(change, preset.name, options.dry_run)))


def _made(options: argparse.Namespace) -> presets.Preset:
    """Make a preset for the user's data and print why it is so; a dry run leaves no file."""
    # Slow to import: JAX.
    from sid2core.data.prepare import survey
    from sid2core.plan.tailored import choice, preset_file, speed

    name = options.called or preset_file.name_for(options.data)
    path = preset_file.check_name(name)
    seconds = options.time or _DEFAULT_SECONDS
    base = yaml_edit.merged(_current(), presets.read(preset_file.BASE).params)
    found = survey.survey(options.data, base)
    machine = (
        speed.device(options.device)
        if options.device
        else speed.here(speed.proxy(found.condition, found.channels))
    )
    chosen = choice.choose(found, machine, seconds, base, options.size)
    print("\n".join(preset_file.lines(found, machine, chosen)))
    command = f"sid2 preset {name} && dvc repro"
    if options.dry_run:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(shutil.copytree(presets.FOLDER, scratch, dirs_exist_ok=True))
            preset_file.write(folder / path.name, found, chosen, command)
            return presets.read(name, folder)
    preset_file.write(path, found, chosen, command)
    print(f"\n{path} is written; `sid2 preset {preset_file.BASE}` goes back")
    return presets.read(name)


def _current() -> Any:
    try:
        return yaml_edit.load(config.PARAMS_FILE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"{config.PARAMS_FILE} not found in {Path.cwd()}; run from the project's root"
        raise presets.PresetError(msg) from None


def _seconds(value: str) -> float:
    """``30m``, ``2h``, ``1.5d`` or ``90s`` in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value)
    if match is None or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{value!r} is not a time such as 30m, 2h or 1d")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


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
    encoder = change.params.text.encoder.settings
    data = [getattr(source, key, None) for key in ("path", "eval_path")]
    data += [getattr(encoder, "path", None)] if change.params.data.captions != "none" else []
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
