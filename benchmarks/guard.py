"""What a step pays to skip updates that are not finite.

Measures :mod:`sid2core.training.skip_nonfinite`.

    python -m benchmarks.guard [--rounds 200] [--threads 1]

The embedded default's compiled step on one batch, and the same step without guard, in turn in one
process. What the guard costs is the median of the ratios of their seconds, less one: by the clock,
and by the processor's own time, which is more exact where other work shares the machine, if there
is one thread: several wait for each other.
"""

from __future__ import annotations

import os
import statistics
import time

from benchmarks import common, train_step
from sid2core.pipeline import launch

DIGITS = "digits 8x8"
CLOCKS = {"clock": time.perf_counter, "processor": time.process_time}


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__ or "", rounds=200)
    parser.set_defaults(threads=1)
    options = parser.parse_args()
    common.use_processors(options.threads)
    os.environ.update(launch.settings(dict(os.environ)))
    from benchmarks import ours  # imports jax, which the settings must precede

    network, batch = common.models("float32")[DIGITS], train_step.BATCHES[DIGITS]
    works = {on: ours.train_step(network, batch, guarded=on) for on in (True, False)}
    for work in works.values():  # compiles
        work()
    ratios: dict[str, list[float]] = {name: [] for name in CLOCKS}
    for number in range(options.rounds):
        seconds = {}
        for on in (True, False) if number % 2 else (False, True):
            since = [clock() for clock in CLOCKS.values()]
            works[on]()
            seconds[on] = [clock() - at for clock, at in zip(CLOCKS.values(), since, strict=True)]
        for name, one, other in zip(CLOCKS, seconds[True], seconds[False], strict=True):
            ratios[name].append(one / other)
    results = {}
    for name, found in ratios.items():
        low, median, high = statistics.quantiles(found, n=4, method="inclusive")
        results[name] = {"median": median - 1, "quartile_1": low - 1, "quartile_3": high - 1}
        print(f"{name}: {median - 1:+.2%} of a step ({low - 1:+.2%} to {high - 1:+.2%})")
    metadata = ours.describe() | {"threads": options.threads}
    common.write("guard", metadata, {"rounds": options.rounds, "cost_of_the_guard": results})


if __name__ == "__main__":
    main()
