"""One training step beside PyTorch's: objective, gradient, clip, Adam and EMA.

    python -m benchmarks.train_step [--compile] [--dtype bfloat16] [--only rgb]

Utilisation is 3 × forward GFLOPs (SiD2 supplement B.3: multiply-adds) × batch / seconds, over the
multiply-adds a second of a large matrix product in the same rounds.
"""

from __future__ import annotations

from benchmarks import common
from benchmarks.common import Contender
from sid2core.models import cost
from sid2core.models.architecture import UViTConfig

BATCHES = {"digits 8x8": 64, "rgb 64x64": 8}
MATMUL = 2048
CEILING, REFERENCE = f"matmul {MATMUL}", "torch"


def contenders(network: UViTConfig, batch: int, compiled: bool) -> list[Contender]:
    """Ours first: it says which device counts."""
    step = {"network": network, "batch": batch}
    ours, torch = "benchmarks.ours:train_step", "benchmarks.twin:train_step"
    product = {"size": MATMUL, "dtype": network.compute_dtype}
    found = [
        Contender("ours", ours, step, tuned=True),
        Contender("ours, as jax comes", ours, step),
        Contender(REFERENCE, torch, step | {"compiled": False}),
        Contender(CEILING, "benchmarks.ours:matmul", product),
    ]
    if compiled:
        found.append(Contender("torch.compile", torch, step | {"compiled": True}))
    return found


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__ or "", rounds=15)
    parser.add_argument("--compile", action="store_true", help="torch.compile too (a minute each)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    results, metadata = {}, {}
    networks = common.models(options.dtype)
    for name in common.chosen(list(networks), options.only):
        network, batch = networks[name], BATCHES[name]
        gflops = cost.forward_gflops(network)
        field = contenders(network, batch, options.compile)
        seconds, found = common.race(field, options.rounds, options.threads)
        rows = common.summary(seconds, REFERENCE)
        for row in rows.values():
            work = cost.FORWARDS_PER_TRAINING_STEP * gflops * batch / row["median"]
            row["utilisation"] = work / (MATMUL**3 / 1e9 / rows[CEILING]["median"])
        rows[CEILING]["utilisation"] = 1.0
        title = f"{name}, batch {batch}, {gflops:.4g} GFLOPs forward, {options.dtype}, ms a step"
        common.show(title, rows, REFERENCE)
        results[name] = {"gflops_forward": gflops, "batch": batch, "contenders": rows}
        metadata |= found
    common.write("train_step", metadata | {"threads": options.threads}, results)


if __name__ == "__main__":
    main()
