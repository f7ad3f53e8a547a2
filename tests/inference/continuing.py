"""A model that continues clips, small and hardly trained, as a folder of weights."""

from sid2core.conditioning import ConditionSpec
from sid2core.models import network
from sid2core.models.network import Network
from tests.inference.test_public import DIFFUSION
from tests.models import configs

GIVEN, FRAMES, SIDE = 1, 3, 4


def saved(folder, seed=0, **extra):
    """Write its weights to ``folder``; it is given the first of three grey frames.

    ``seed`` is that of the weights, ``extra`` are further entries of its ``config.json``.
    """
    spec = ConditionSpec.of_classes(2).with_given(GIVEN, (FRAMES, SIDE, SIDE, 1))
    block = {"channels": (12,), "blocks": ("transformer",), "encoder_depth": (), "dropout": (0.0,)}
    shape = (FRAMES - GIVEN, SIDE, SIDE, 1)
    net = Network(configs.tiny(image_shape=shape, condition=spec, decoder_depth=(), **block))
    network.save(folder, net, configs.weights(net, seed), {"diffusion": DIFFUSION, **extra})
    return folder
