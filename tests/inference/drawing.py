"""A small model of images, as a folder of weights."""

from sid2core.models import network
from sid2core.models.network import Network
from tests.inference.test_public import DIFFUSION
from tests.models import configs


def saved(folder, condition, **extra):
    """Write its weights to ``folder``; ``extra`` are further entries of its ``config.json``."""
    block = {"channels": (12,), "blocks": ("transformer",), "encoder_depth": (), "dropout": (0.0,)}
    net = Network(configs.tiny(condition=condition, decoder_depth=(), **block))
    network.save(folder, net, configs.weights(net), {"diffusion": DIFFUSION, **extra})
    return folder
