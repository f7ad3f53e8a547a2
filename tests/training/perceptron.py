"""A network of one hidden layer, for tests of how training is run and not of what is trained."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from sid2core.config import build
from sid2core.models import sharding
from sid2core.models.dropout import dropped
from sid2core.models.network import Network

HIDDEN, RATE = 32, 0.3


@dataclass(frozen=True)
class Perceptron(Network):
    """``out + W2 dropout(tanh(W1 z + class[label] + lam level))``, z and the output flattened.

    It compiles in a tenth of the U-ViT's time. Most weights can be divided among eight devices, the
    ``odd`` one cannot.
    """

    def init(self, key):
        size, classes = self.size, self.config.condition.label.classes + 1
        shapes = {
            "W1/kernel": (size, HIDDEN),
            "W2/kernel": (HIDDEN, size),
            "class": (classes, HIDDEN),
            "level": (HIDDEN,),
            "odd": (3,),
            "out": (size,),
        }
        return {
            name: 0.1 * jax.random.normal(jax.random.fold_in(key, index), shape)
            for index, (name, shape) in enumerate(shapes.items())
        }

    def shapes(self):
        return jax.eval_shape(lambda: self.init(jax.random.key(0)))

    def apply(self, params, z, logsnr, condition, dropout_key=None):
        params = jax.tree.map(sharding.gathered, params)
        hidden = z.reshape(len(z), -1) @ params["W1/kernel"] + params["class"][condition.label]
        hidden = jnp.tanh(hidden + 0.1 * logsnr[:, None] * params["level"][None])
        out = dropped(hidden, RATE, dropout_key) @ params["W2/kernel"] + params["out"][None]
        return (out * (1.0 + jnp.mean(params["odd"]))).reshape(z.shape)

    @property
    def size(self):
        """Values of one example."""
        height, width, channels = self.config.image_shape
        return height * width * channels


def perceptron(params, shape, condition):
    """The network for a run of ``params`` on examples of ``shape``."""
    return Perceptron(build.network(params.model, shape, condition))
