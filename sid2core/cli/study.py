"""``sid2 study``: list, show, run, report and clean the studies of ``experiments/``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sid2core import config
from sid2core.cli import plan as plan_command
from sid2core.config import presets
from sid2core.plan.hardware import SHEETS
from sid2core.studies import experiments, runs, study
from sid2core.studies.runs import Run

if TYPE_CHECKING:
    from sid2core.conditioning import ConditionSpec

_RESULTS = Path("docs/results")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="all studies, and how many of their runs are finished")
    show = actions.add_parser("show", help="what a study compares, and the state of each run")
    run = actions.add_parser("run", help="run what is missing")
    run.add_argument("--jobs", metavar="N", type=plan_command.positive, default=1)
    run.add_argument("--dry-run", action="store_true", help="only print what it costs")
    run.add_argument("--device", choices=tuple(SHEETS), help="price for it instead of this machine")
    report = actions.add_parser("report", help="tables, figures and conclusions")
    report.add_argument(
        "--to", metavar="FILE", type=Path, help="Markdown as well, such as docs/results/NAME.md"
    )
    clean = actions.add_parser("clean", help="remove the study's experiments, to run them again")
    for one in (show, run, report, clean):
        one.add_argument("name", metavar="NAME", help="a study: experiments/NAME.yaml")
        one.add_argument(
            "--preset", metavar="PRESET", help="instead of the file's; small_scale is not applied"
        )


def run(options: argparse.Namespace) -> None:
    """Do what was asked for."""
    if options.action == "list":
        print("\n".join(_list()))
        return
    every = runs.all_of(options.name, study.read(options.name), options.preset)
    if options.action == "show":
        print("\n".join(_show(options.name, every)))
    elif options.action == "clean":
        _clean(every)
    elif options.action == "report":
        _report(options)
    elif options.dry_run:
        _price(every, options)
    else:
        _run(every, options)


def _list() -> Iterable[str]:
    finished = experiments.finished()
    names = study.names()
    width = max(map(len, names), default=0)
    for name in names:
        every = runs.all_of(name, study.read(name))
        done = sum(one.name in finished for one in every)
        yield f"{name.ljust(width)}  {done:2d} of {len(every):2d} runs  {study.read(name).title}"


def _show(name: str, every: Sequence[Run]) -> Iterable[str]:
    read, finished = study.read(name), experiments.finished()
    yield from (read.title, read.source, "", f"preset {read.preset}, up to the stage {read.target}")
    for title, values in (("every variant", read.params), ("only with it", read.small_scale)):
        yield from (f"  {title}: {line}" for line in study.lines_of(values))
    yield ""
    for variant, values in read.combinations().items():
        own = [one for one in every if one.variant == variant]
        done = sum(one.name in finished for one in own)
        yield f"{variant}: {done} of {len(own)} runs are finished"
        yield from (f"  {line}" for line in study.lines_of(values))
    yield ""
    for claim in read.claims:
        yield f"claim: {claim.words} ({' < '.join(claim.order)})"


def _run(every: Sequence[Run], options: argparse.Namespace) -> None:
    experiments.check_repository()
    if {one.name for one in every} <= experiments.finished().keys():
        print(f"all {len(every)} runs are finished; `sid2 study report {options.name}` compares")
        return
    from sid2core.studies import queue, runner  # slow to import: DVC

    try:
        runner.run(options.name, every, options.jobs, queue.Queue())
    except KeyboardInterrupt:
        print(
            "stopped watching; DVC's workers go on with what is queued (`dvc queue stop --kill` "
            "stops them), and the same command continues"
        )


def _price(every: Sequence[Run], options: argparse.Namespace) -> None:
    """Print the cost of the missing runs."""
    from sid2core.plan.tailored import speed  # slow to import: JAX
    from sid2core.studies import pricing

    finished = experiments.finished()
    done = [one for one in every if one.name in finished]
    todo = [one for one in every if one.name not in finished]
    print(f"{len(todo)} of {len(every)} runs are missing")
    if not todo:
        return
    preset = presets.read(options.preset).evidence if options.preset else None

    def described(params: config.Params) -> tuple[tuple[int, ...], ConditionSpec]:
        """The shape of an example, and the condition; the data of a preset need not be there."""
        classes, captions = (preset.classes, preset.captions) if preset else (None, None)
        shape = plan_command.shape_of(params.data, params.loader.clip_frames)
        return shape, plan_command.condition_of(params, shape, classes, captions)

    cost = pricing.price(todo, done, described)
    if options.device:
        machine = speed.device(options.device)
    else:
        shape, condition = described(todo[0].params)
        machine = speed.here(speed.proxy(condition, shape[-1]))
    # On one processor or GPU, jobs share what it computes.
    jobs = options.jobs if options.device else 1
    print("\n".join(pricing.lines(cost, machine.rate, machine.name, jobs)))


def _report(options: argparse.Namespace) -> None:
    from sid2core.report.read import study_files
    from sid2core.studies import results, writing  # slow to import: Matplotlib

    name, read = options.name, study.read(options.name)
    every = runs.all_of(name, read, options.preset)
    found = results.collect(name, read, every, experiments.finished(), options.preset)
    folder = f"{name}-{options.preset}" if options.preset else name
    written = writing.write(found, study_files.FOLDER / folder)
    if options.to is not None:
        written += writing.write_markdown(found, options.to)
    for claim in found.claims:
        print(f"{claim.words} {claim.conclusion.upper()} at this scale, {len(read.seeds)} seeds")
    print("\n".join(str(path) for path in written))
    if options.to is None:
        print(f"a report to commit: add --to {_RESULTS / folder}.md")


def _clean(every: Sequence[Run]) -> None:
    from sid2core.studies import queue  # slow to import: DVC

    finished = experiments.finished()
    names = [one.name for one in every if one.name in finished]
    queue.Queue().remove(one.name for one in every)
    if names:
        queue.dvc(["exp", "remove", *names])
    print(f"{len(names)} experiments removed")
