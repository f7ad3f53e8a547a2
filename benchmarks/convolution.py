"""The gradient of a 3×3 (×3) convolution's kernel, outside of ``scan`` and inside, jax's and ours.

    python -m benchmarks.convolution

Both sides run as jax comes, so that they differ in the gradient alone.
"""

from __future__ import annotations

from benchmarks import common
from benchmarks.common import Contender

STEPS = 4
SHAPES = {
    "32 channels, 8x8, batch 64": {"channels": 32, "spatial": (8, 8), "batch": 64},
    "64 channels, 32x32, batch 8": {"channels": 64, "spatial": (32, 32), "batch": 8},
    "32 channels, 8 frames of 8x8, batch 16": {"channels": 32, "spatial": (8, 8, 8), "batch": 16},
}
REFERENCE = "lax, outside"


def main() -> None:
    """Measure, print, write."""
    options = common.arguments(__doc__ or "", rounds=5).parse_args()
    results, metadata = {}, {}
    for name in common.chosen(list(SHAPES), options.only):
        field = [
            Contender(
                f"{who}, {where}",
                "benchmarks.ours:convolution",
                SHAPES[name] | {"steps": STEPS, "ours": who == "ours", "loop": where == "in scan"},
            )
            for who in ("lax", "ours")
            for where in ("outside", "in scan")
        ]
        seconds, found = common.race(field, options.rounds, options.threads)
        rows = common.summary(seconds, REFERENCE)
        common.show(f"{name}, ms for {STEPS} steps", rows, REFERENCE)
        results[name] = {"steps": STEPS, "contenders": rows}
        metadata |= found
    common.write("convolution", metadata | {"threads": options.threads}, results)


if __name__ == "__main__":
    main()
