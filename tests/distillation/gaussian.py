"""What tests of distillation share: a network that is the exact denoiser of Gaussian data."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from sid2core.conditioning import ConditionSpec
from sid2core.diffusion.guidance import NoGuidance
from sid2core.diffusion.parametrisation import Prediction
from sid2core.diffusion.schedule import CosineInterpolated
from sid2core.distillation.alternating import Alternating
from sid2core.distillation.states import States
from sid2core.distillation.teacher import Guided
from sid2core.inference.denoiser import Denoiser
from sid2core.models.network import Network

SCHEDULE = CosineInterpolated(8, 8)
CLASSES = 3
CAP = 10.0


@dataclass(frozen=True)
class Shape:
    condition: ConditionSpec = ConditionSpec.of_classes(CLASSES)


@dataclass(frozen=True)
class Gaussian(Network):
    """The exact denoiser of data N(mean[label], variance) at every pixel.

    x_hat = m + v alpha / (v alpha² + sigma²) (z − alpha m). Variance 0 gives the mean alone.
    """

    config: Shape = Shape()
    asked: list = field(default_factory=list, compare=False)

    def apply(self, params, z, logsnr, condition, dropout_key=None):
        assert dropout_key is None, "distillation has no dropout"
        labels = condition.label
        self.asked.append((z, logsnr, labels))
        alpha2 = jax.nn.sigmoid(logsnr)[:, None, None, None]
        mean, variance = params["mean"][labels][:, None, None, None], params["variance"]
        gain = variance * jnp.sqrt(alpha2) / (variance * alpha2 + 1 - alpha2)
        return mean + gain * (z - jnp.sqrt(alpha2) * mean)


def matching(guidance=None, steps=4, cap=CAP, worse=False, **options):
    """The alternating form; ``options`` are those of its states."""
    denoiser = Denoiser(Gaussian(), Prediction.X)
    guided = Guided(denoiser, guidance or NoGuidance(), denoiser if worse else None)
    return Alternating(States(denoiser, SCHEDULE, steps, **options), guided, cap)


def params(*means, variance=0.0):
    """One mean a class, the last for no class."""
    values = [*means] if len(means) > 1 else [means[0]] * (CLASSES + 1)
    return {"mean": jnp.array(values, jnp.float32), "variance": jnp.float32(variance)}
