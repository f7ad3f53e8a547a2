"""The command ``sid2``: each subcommand is one row of :data:`COMMANDS`."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sid2core
from sid2core import console
from sid2core.cli import export, fd, import_, plan, preset, sample, samples, serve, study, watch
from sid2core.errors import Sid2Error, message, of_system


@dataclass(frozen=True)
class Command:
    """A subcommand: ``arguments`` declares its arguments, ``run`` does the work and prints.

    Their module is imported at every start; slow imports (JAX) belong into ``run``.
    """

    name: str
    summary: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


COMMANDS = (
    Command("preset", preset.SUMMARY, preset.arguments, preset.run),
    Command("plan", plan.SUMMARY, plan.arguments, plan.run),
    Command("sample", sample.SUMMARY, sample.arguments, sample.run),
    Command("samples", samples.SUMMARY, samples.arguments, samples.run),
    Command("export", export.SUMMARY, export.arguments, export.run),
    Command("import", import_.SUMMARY, import_.arguments, import_.run),
    Command("serve", serve.SUMMARY, serve.arguments, serve.run),
    Command("watch", watch.SUMMARY, watch.arguments, watch.run),
    Command("study", study.SUMMARY, study.arguments, study.run),
    Command("fd", fd.SUMMARY, fd.arguments, fd.run),
)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; it stores the chosen one in ``command``."""
    top = argparse.ArgumentParser(prog="sid2", description="Simpler Diffusion (SiD2).")
    version = f"sid2 {sid2core.__version__}"
    top.add_argument("--version", action="version", version=version, help="print the version")
    subparsers = top.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = subparsers.add_parser(command.name, help=command.summary, description=command.summary)
        command.arguments(sub)
        sub.set_defaults(command=command)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code. A :class:`Sid2Error` is one line on stderr."""
    console.prepare()
    options = parser().parse_args(arguments)
    try:
        options.command.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe (`sid2 … | head`); the flush at exit must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        line = of_system(error)
        if error.errno in (errno.ENOSPC, errno.EIO) and error.filename is None:
            line = f"cannot write the result: {error.strerror}"
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if line is None:
            raise
        print(f"sid2: {line}", file=sys.stderr)
        return 1
    except Sid2Error as error:
        lines = (line.strip() for line in message(error).split("\n"))
        print("sid2:", "; ".join(lines).replace(":; ", ": "), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
