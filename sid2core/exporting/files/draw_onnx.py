"""Draws from a SiD2 model in ONNX. It needs NumPy and ONNX Runtime: pip install numpy onnxruntime.

python draw.py --count 4 --out drawn.png
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import sampling
from options import condition, null, parsed, save, settings


class Model:
    """The network of a folder, for any number of examples, and the settings of its sampler."""

    def __init__(self, folder: Path):
        self.folder, self.settings = folder, settings(folder)["sampling"]
        self.session = onnxruntime.InferenceSession(
            folder / "denoiser.onnx", providers=onnxruntime.get_available_providers()
        )
        self.shape = tuple(self.session.get_inputs()[0].shape[1:])

    def network(self, **inputs: np.ndarray) -> np.ndarray:
        """The network's output for noisy images z [n, …] at log-SNR [n] and a condition."""
        return np.asarray(self.session.run(None, inputs)[0])

    def draw(self, noise: Any, guidance: float, **condition: np.ndarray) -> np.ndarray:
        """Images [n, …] in [-1, 1] in as many steps as ``noise`` has.

        Args:
            noise: standard normal noise [steps, n, …], of the start and of each step but the last.
            guidance: its weight.
            condition: [n, …], as null.npz names it.
        """
        condition.pop("keys", None)  # for samplers that make the noise
        count = len(noise[0])
        negative = null(self.folder, count)

        def network(z: np.ndarray, logsnr: float, is_negative: bool) -> np.ndarray:
            levels = np.full(count, logsnr, np.float32)
            own = negative if is_negative else condition
            return self.network(z=z.astype(np.float32), logsnr=levels, **own)

        how = self.settings | {"steps": len(noise), "guidance": float(guidance)}
        return np.asarray(sampling.draw(network, noise.__getitem__, how))


load = Model


def main() -> None:
    """Draw what the options say."""
    options, folder = parsed(__doc__), Path(__file__).parent
    model, inputs = load(folder), condition(folder, options)
    steps, weight = model.settings["steps"], options.guidance
    shape = (steps, options.count, *model.shape)
    noise = np.random.default_rng(options.seed).standard_normal(shape, np.float32)
    x = model.draw(noise, model.settings["guidance"] if weight is None else weight, **inputs)
    save(options.out, x, inputs)


if __name__ == "__main__":
    main()
