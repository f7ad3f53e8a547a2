"""Given frames in the network: what it reads, what it returns, and its weights' files."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sid2core.conditioning import Condition, ConditionSpec, Given, GivenKind
from sid2core.models import cost, network
from sid2core.models.architecture import ModelError
from sid2core.models.network import Network
from sid2core.models.uvit import after
from tests.models import configs
from tests.refusals import refused

GIVEN, PREDICTED = 2, 4
SPEC = ConditionSpec.of_classes(4).with_given(GIVEN, (GIVEN + PREDICTED, 4, 4, 1))
CONFIG = configs.tiny(
    image_shape=(PREDICTED, 4, 4, 1), condition=SPEC, temporal_strides=(2,), patch_size=1
)


def clips(frames, batch=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, frames, 4, 4, 1), np.uint8)


def test_the_network_reads_given_frames_and_predicts_the_others():
    """The same z four times: after two clips that are there, one that is not, and the null."""
    block = {"channels": (12,), "blocks": ("transformer",), "encoder_depth": (), "dropout": (0.0,)}
    net = Network(replace(CONFIG, **block, decoder_depth=(), temporal_strides=()))
    z = jnp.broadcast_to(configs.inputs(CONFIG, 1)[0], (4, *CONFIG.image_shape))
    frames = clips(GIVEN, 4)
    frames[3] = np.asarray(SPEC.null(1).given.frames)[0]
    given = Given(jnp.asarray(frames), jnp.array([True, True, False, False]))
    condition = Condition(label=jnp.zeros(4, jnp.int32), given=given)
    assert net.shapes()["patch_in/kernel"].shape[-2] == 2, "a channel for the mask"
    out = np.asarray(jax.jit(net.apply)(configs.weights(net), z, jnp.zeros(4), condition))
    assert out.shape == z.shape
    for one, other in ((0, 1), (1, 2)):
        assert np.abs(out[one] - out[other]).max() > 1e-3
    assert (out[2] == out[3]).all(), "frames that are not there have no effect"


def test_each_example_has_its_own_given_frames_before_z_and_a_mask_channel():
    z = jnp.ones((2, PREDICTED, 4, 4, 1))
    found = np.asarray(after(Given(jnp.asarray(clips(GIVEN, 2)), jnp.array([True, False])), z))
    assert found.shape == (2, GIVEN + PREDICTED, 4, 4, 2)
    np.testing.assert_allclose(found[0, :GIVEN, ..., :1], clips(GIVEN, 2)[0] / 127.5 - 1, atol=1e-6)
    assert (found[1, :GIVEN] == 0).all()
    assert (found[:, GIVEN:, ..., 0] == 1).all()
    assert found[0, ..., 1].mean(axis=(1, 2)).tolist() == [1, 1, 0, 0, 0, 0]


def test_given_frames_cost_what_predicted_ones_do():
    """SiD2 supplement B.3 counts positions, and those of given frames are computed too."""
    whole = configs.tiny(
        image_shape=(GIVEN + PREDICTED, 4, 4, 1), temporal_strides=(2,), patch_size=1
    )
    assert CONFIG.grid(0) == (6, 4, 4)
    assert CONFIG.grid(1) == (3, 2, 2)
    assert cost.forward_gflops(CONFIG) == cost.forward_gflops(whole)


def test_weights_with_given_frames_are_written_and_read(tmp_path):
    net = Network(CONFIG)
    network.save(tmp_path, net, configs.weights(net), {})
    again, _, _ = network.load(tmp_path)
    assert again.config == CONFIG
    assert again.config.condition.given == GivenKind((GIVEN, 4, 4, 1))


@pytest.mark.parametrize(
    "changes",
    [{"image_shape": (4, 4, 1), "temporal_strides": (1,)}, {"image_shape": (PREDICTED, 8, 8, 1)}],
    ids=["an image", "other sides"],
)
def test_given_frames_of_another_shape_are_refused(changes):
    with refused(ModelError, "given frames of shape [2, 4, 4, 1]", "expected frames of a clip"):
        replace(CONFIG, **changes)


def test_given_and_predicted_frames_together_divide_by_the_strides():
    with refused(ModelError, "clips of 6 frames do not divide by 4", "model.temporal_strides"):
        replace(CONFIG, temporal_strides=(4,))
