"""The command ``sid2``: each subcommand is one row of :data:`COMMANDS`, and a module."""

from __future__ import annotations

import argparse
import errno
import importlib
import keyword
import os
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType

import sid2core
from sid2core import console
from sid2core.errors import Sid2Error, message, of_system

COMMANDS: Mapping[str, str] = {
    "preset": "Set params.yaml to a preset of conf/ or to one made for your data; list presets.",
    "plan": "Parameters, FLOPs, memory and time of a model, before training; allocates no weight.",
    "sample": "Draw images or clips with a trained model; each file says how to draw it again.",
    "samples": "Export samples that evaluation kept (`sid2 sample` draws new ones).",
    "export": "Export a trained model for other libraries; it is checked in a fresh process.",
    "import": "Make a folder of weights from an export, also after training it elsewhere.",
    "serve": "Serve a page that draws from trained models in a browser.",
    "watch": "Show the running stages: step, rate, time left, loss, newest samples.",
    "study": "Run the studies of experiments/ as DVC experiments, compare variants, report.",
    "fd": "Fréchet distance of two sets of images, clips or statistics; FID with its network.",
}
"""Subcommand → what it does.

``sid2core.cli.<name>`` has ``arguments(parser)``, which declares its arguments, and
``run(options)``, which does the work and prints. It is imported when the command is given, for
``--help`` too, so slow imports (JAX) belong into ``run``.
"""


def parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of all commands, with the arguments of the ``given`` one.

    It stores the module of the chosen command in ``command``.
    """
    top = argparse.ArgumentParser(prog="sid2", description="Simpler Diffusion (SiD2).")
    version = f"sid2 {sid2core.__version__}"
    top.add_argument("--version", action="version", version=version, help="print the version")
    subparsers = top.add_subparsers(metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        sub = subparsers.add_parser(name, help=summary, description=summary)
        if name in given:
            module = _module(name)
            module.arguments(sub)
            sub.set_defaults(command=module)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code. A :class:`Sid2Error` is one line on stderr."""
    console.prepare()
    given = sys.argv[1:] if arguments is None else arguments
    options = parser(given).parse_args(given)
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


def _module(name: str) -> ModuleType:
    """The module of a subcommand; where its name is a keyword of Python, ``_`` follows."""
    return importlib.import_module(f"sid2core.cli.{name}{'_' * keyword.iskeyword(name)}")


if __name__ == "__main__":
    sys.exit(main())
