"""Drawing a batch of images in 64 DDPM steps, beside the same loop in PyTorch.

    python -m benchmarks.sampling [--compile] [--dtype bfloat16] [--only digits]

Unguided, guided in an interval of log-SNR that covers 26 of the 64 steps, and guided at all.
"""

from __future__ import annotations

from benchmarks import common
from benchmarks.common import Contender
from sid2core.models.architecture import UViTConfig

BATCHES = {"digits 8x8": 50, "rgb 64x64": 2}
STEPS = 64
GUIDED = {"unguided": (0, 0), "interval": (19, 45), "constant": (0, STEPS)}
"""From which step to before which one guidance acts."""
REFERENCE = "torch"


def contenders(
    network: UViTConfig, batch: int, guided: tuple[int, int], compiled: bool
) -> list[Contender]:
    """Ours first: it says which device counts."""
    draw = {"network": network, "batch": batch, "steps": STEPS, "guided": guided}
    ours, torch = "benchmarks.ours:sampler", "benchmarks.twin:sampler"
    found = [
        Contender("ours", ours, draw, tuned=True),
        Contender("ours, as jax comes", ours, draw),
        Contender(REFERENCE, torch, draw | {"compiled": False}),
    ]
    if compiled:
        found.append(Contender("torch.compile", torch, draw | {"compiled": True}))
    return found


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__ or "", rounds=3)
    parser.add_argument("--compile", action="store_true", help="torch.compile too (a minute each)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    networks = common.models(options.dtype)
    cases = {f"{name}, {how}": (name, how) for name in networks for how in GUIDED}
    results, metadata = {}, {}
    for case in common.chosen(list(cases), options.only):
        name, how = cases[case]
        batch = BATCHES[name]
        field = contenders(networks[name], batch, GUIDED[how], options.compile)
        seconds, found = common.race(field, options.rounds, options.threads)
        rows = common.summary(seconds, REFERENCE)
        common.show(f"{case}, batch {batch}, {options.dtype}, ms a batch", rows, REFERENCE)
        results[case] = {"batch": batch, "steps": STEPS, "contenders": rows}
        metadata |= found
        # After every case: all of them take a quarter of an hour.
        common.write("sampling", metadata | {"threads": options.threads}, results)


if __name__ == "__main__":
    main()
