"""``sid2 fd``: the Fréchet distance of two sets of images, or of their statistics."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sid2core.errors import Sid2Error

if TYPE_CHECKING:  # slow to import
    from sid2core.metrics.comparison import Comparison, Side

_WHAT = "an npz of mu and sigma; or images or clips: a folder, .zip, .tar, .npz, .npy or .parquet"


class FdError(Sid2Error):
    """The command would overwrite a file."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("first", metavar="A", help=_WHAT)
    parser.add_argument("second", metavar="B", help="the reference; the same kinds")
    parser.add_argument(
        "--extractor",
        choices=("reference", "inception", "dinov2", "i3d", "i3d_k600"),
        help="default: that of the statistics; for images that of artifacts/reference",
    )
    parser.add_argument("--weights", metavar="FILE", type=Path, help="of all but reference")
    parser.add_argument(
        "--mode", choices=("tf1", "torch", "clean"), help="of inception; default: tf1"
    )
    parser.add_argument(
        "--frames", metavar="N", type=int, help="of i3d: measure the first N of each clip"
    )
    parser.add_argument(
        "--size", metavar="N", type=int, help="of clips in files: resize the shorter side to N"
    )
    parser.add_argument(
        "--unverified", action="store_true", help="accept other weights; the result is then not FID"
    )
    parser.add_argument(
        "--despite",
        metavar="ENTRY",
        action="append",
        default=[],
        help="compare although ENTRY differs",
    )
    parser.add_argument("--save-stats", metavar="FILE", type=Path, help="write A's statistics")
    parser.add_argument("--force", action="store_true", help="replace FILE")


def run(options: argparse.Namespace) -> None:
    """Measure and print; write A's statistics if a file is given."""
    from sid2core.metrics import comparison

    target = options.save_stats
    if target is not None and target.exists() and not options.force:
        msg = f"{target} exists already; choose another name, or replace it with --force"
        raise FdError(msg)
    choice = comparison.Choice(
        options.extractor,
        options.weights,
        options.mode,
        not options.unverified,
        options.frames,
        options.size,
    )
    sides = comparison.sides((options.first, options.second), choice, options.despite)
    if target is not None:
        sides[0].moments.save(target)
    found = comparison.compare(sides[0].moments, sides[1].moments, options.despite)
    print("\n".join(_lines(found, sides, options.despite)))


def _lines(found: Comparison, sides: Sequence[Side], despite: Sequence[str]) -> Iterator[str]:
    yield f"{found.title}: {found.distance:.6g}"
    for letter, side in zip("AB", sides, strict=True):
        yield f"  {letter}: {side.path}, {_kind(side)}, N {_count(side)}, {_bias(found, side)}"
    provenance = sides[0].moments.provenance
    digest = provenance.get("extractor_digest", "unknown")[:12]
    mode = provenance.get("mode", "its own")
    yield f"  extractor: {provenance['extractor']} ({digest}), mode: {mode}"
    if despite:
        yield f"  despite differences in: {', '.join(despite)}"
    if found.unchecked:
        yield f"  not checked, because a file does not record it: {', '.join(found.unchecked)}"


def _kind(side: Side) -> str:
    if side.images is not None:
        shape = side.images.shape
        what, size = "clips" if len(shape) == 4 else "images", "x".join(map(str, shape))
        return f"{what} of {size}, {side.images.image_format}"
    declared = side.moments.provenance.get("declared")
    return f"statistics (declared: {', '.join(declared)})" if declared else "statistics"


def _count(side: Side) -> str:
    return "unknown" if side.moments.n is None else f"{side.moments.n:,}"


def _bias(found: Comparison, side: Side) -> str:
    """The part of the distance that is due to this side's number of images."""
    n = side.moments.n
    return "bias C/N unknown" if n is None else f"bias C/N {found.bias_constant / n:.4g}"
