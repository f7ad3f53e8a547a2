"""``sid2 import``: the weights of an export as a folder of this project."""

from __future__ import annotations

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add = parser.add_argument
    add("source", metavar="FOLDER", type=Path, help="what sid2 export wrote")
    add("--to", metavar="MODEL", type=Path, required=True, help="a new folder of weights")


def run(options: argparse.Namespace) -> None:
    """Write the folder."""
    from sid2core.exporting import importing

    importing.write(options.source, options.to)
    print(f"{options.to}: weights of {options.source}; sid2 sample {options.to} draws from it")
