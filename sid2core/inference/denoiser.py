"""A network of any prediction as an estimate of the clean image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sid2core.conditioning import Condition
from sid2core.diffusion import parametrisation
from sid2core.models.dropout import DropoutKey
from sid2core.models.network import Network
from sid2core.typing import Array, LogSnr, Samples


@dataclass(frozen=True)
class Denoiser:
    """x_hat from a network of any prediction."""

    network: Network
    prediction: parametrisation.Prediction

    def __call__(
        self,
        params: Mapping[str, Array],
        z: Samples,
        logsnr: LogSnr,
        condition: Condition,
        dropout_key: DropoutKey | None = None,
    ) -> Samples:
        """The network's estimate of the clean examples [b, …]; not clipped.

        Without ``dropout_key`` nothing is dropped.
        """
        output = self.network.apply(params, z, logsnr, condition, dropout_key)
        return parametrisation.x_from(self.prediction, z, output, logsnr)
