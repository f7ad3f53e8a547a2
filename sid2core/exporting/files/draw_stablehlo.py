"""Draws from a SiD2 model as StableHLO programs. It needs JAX alone: pip install jax flatbuffers.

python draw.py --count 4 --out drawn.png
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import jax
import numpy as np
from jax import export
from options import Arrays, condition, parsed, save, settings


class Model:
    """The programs of a folder, for any number of examples, on the device that JAX chooses."""

    def __init__(self, folder: Path):
        self.folder = folder
        with np.load(folder / "weights.npz") as file:
            self.weights = dict(file)

    def network(self, z: np.ndarray, logsnr: np.ndarray, **condition: np.ndarray) -> np.ndarray:
        """The network's output for noisy images z [n, …] at log-SNR [n]."""
        return self._run("denoiser.stablehlo", z, logsnr, condition)

    def draw(self, keys: np.ndarray, guidance: float, **condition: np.ndarray) -> np.ndarray:
        """Images [n, …] in [-1, 1], one for each key; uint32 [n, 2]."""
        condition.pop("noise", None)  # for samplers that are given their noise
        return self._run("sampler.stablehlo", keys, np.float32(guidance), condition)

    def _run(self, name: str, *arguments: np.ndarray | Arrays) -> np.ndarray:
        program = export.deserialize(bytearray((self.folder / name).read_bytes()))
        return np.asarray(jax.jit(program.call)(self.weights, *arguments))


load = Model


def keys(seed: int, count: int) -> np.ndarray:
    """The keys of images 0 to n - 1, uint32 [n, 2]: those that `sid2 sample` draws from."""
    stream = int.from_bytes(hashlib.sha256(b"sample").digest()[:4], "little")
    base = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), stream)
    own = jax.vmap(lambda index: jax.random.fold_in(base, index))(np.arange(count))
    return np.asarray(jax.random.key_data(own))


def main() -> None:
    """Draw what the options say."""
    options, folder = parsed(__doc__), Path(__file__).parent
    inputs, weight = condition(folder, options), settings(folder)["sampling"]["guidance"]
    if options.guidance is not None:
        if not weight:
            raise SystemExit("--guidance: found a weight, but the export has no guidance")
        weight = options.guidance
    x = load(folder).draw(keys(options.seed, options.count), weight, **inputs)
    save(options.out, x, inputs)


if __name__ == "__main__":
    main()
