"""What the training loop itself costs: all that is not the compiled step.

    python -m benchmarks.train_loop

The embedded default as the stage trains it, with its data, its log, its checkpoints (the last of
which is waited for), beside its compiled step alone, called as often on one batch that is there.
Both in turn, round by round; what the loop costs is the median of their ratios less one.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from benchmarks import common, pictures
from benchmarks.common import Contender

STEPS = 400
"""A quarter of the embedded default, with its checkpoints; the last one is waited for."""
LOOP, BARE = "the whole loop", "the compiled step"


def main() -> None:
    """Measure, print, write."""
    options = common.arguments(__doc__ or "", rounds=9).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures.write_digits(Path(folder))
        shared = {"folder": folder, "steps": STEPS}
        field = [
            Contender(
                *(name, "benchmarks.readers:training", shared | {"bare": name == BARE}),
                tuned=True,
                environment={"TQDM_MININTERVAL": "15"},
            )
            for name in (LOOP, BARE)
        ]
        seconds, metadata = common.race(field, options.rounds, options.threads)
    rows = common.summary(seconds, BARE)
    common.show(f"embedded default, {STEPS} steps, ms", rows, BARE)
    ratios = [whole / bare for whole, bare in zip(seconds[LOOP], seconds[BARE], strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    share = {"median": median - 1, "quartile_1": low - 1, "quartile_3": high - 1}
    print(f"the loop costs {share['median']:.2%} of the step ({low - 1:.2%} to {high - 1:.2%})")
    results = {"steps": STEPS, "contenders": rows, "cost_of_the_loop": share}
    common.write("train_loop", metadata | {"threads": options.threads}, results)


if __name__ == "__main__":
    main()
