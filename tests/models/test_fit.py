"""A difference is reported with its key; weights of another size are resized."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sid2core.conditioning import ConditionSpec
from sid2core.models import fit, network
from sid2core.models.fit import WeightsError
from sid2core.models.network import Network
from tests.models import configs

TEXT = {"condition": ConditionSpec.of_classes(4).with_text(configs.text_kind())}
CONFIG = configs.tiny(encoder_depth=(1,), decoder_depth=(2,), mid_depth=2)
WIDE = configs.tiny(image_shape=(16, 16, 3), encoder_depth=(1,), decoder_depth=(2,), mid_depth=2)


def shapes(**changes):
    fields = {"encoder_depth": (1,), "decoder_depth": (2,), "mid_depth": 2}
    network = Network(configs.tiny(**(fields | changes)))
    return {name: one.shape for name, one in network.shapes().items()}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"patch_size": 1}, "model.patch_size"),
        ({"channels": (8, 12)}, "model.channels"),
        ({"channels": (4, 18)}, "model.channels"),
        ({"emb_channels": 10}, "model.emb_channels"),
        ({"condition": ConditionSpec.of_classes(5)}, "classes"),
        ({"image_shape": (16, 8, 3)}, "data.image_size"),
        ({"image_shape": (8, 8, 1)}, "data.channels"),
        ({"encoder_depth": (2,)}, "model.encoder_depth"),
        ({"decoder_depth": (1,)}, "model.decoder_depth"),
        ({"mid_depth": 3}, "model.mid_depth"),
        ({"blocks": ("transformer", "transformer"), "head_size": 4}, "model.blocks"),
        ({"head_size": 4}, "model.head_size"),
        ({"head_size": None, "heads": 1}, "model.heads"),
        ({"position": "rope"}, "model.position"),
        ({"film": "mlp"}, "model.film"),
        (TEXT, "model.text"),
    ],
)
def test_the_key_behind_the_first_difference_is_named(changes, key):
    message = fit.difference(shapes(), shapes(**changes))
    assert message is not None
    assert key in message.split("; see ")[1]
    back = fit.difference(shapes(**changes), shapes())
    assert back is not None
    assert key in back.split("; see ")[1]


def test_weights_that_fit_differ_nowhere():
    assert fit.difference(shapes(), shapes()) is None
    assert fit.difference(shapes(order="parallel"), shapes()) is None


def test_a_larger_image_takes_the_same_weights_but_for_positions():
    weights = configs.weights(Network(CONFIG))
    found = fit.resized(weights, CONFIG, WIDE)
    network.check(found, Network(WIDE), "resized", "the larger network")
    for name, value in weights.items():
        if name.endswith("/position"):
            assert found[name].shape == (4, 4, 12)
        else:
            assert found[name] is value
    out = jax.jit(Network(WIDE).apply)(found, *configs.inputs(WIDE))
    assert bool(jnp.isfinite(out).all())


def test_positions_are_interpolated_between_centres():
    """A ramp stays a ramp between the outermost centres and is level beyond them."""
    name = "middle/position"
    weights = configs.weights(Network(CONFIG))
    ramp = np.broadcast_to(np.array([0.0, 1.0])[None, :, None], (2, 2, 12)).astype(np.float32)
    found = fit.resized(weights | {name: jnp.asarray(ramp)}, CONFIG, WIDE)[name]
    np.testing.assert_allclose(found[0, :, 0], [0.0, 0.25, 0.75, 1.0], atol=1e-6)
    np.testing.assert_allclose(found[:, 1, 3], 0.25, atol=1e-6)


def test_the_same_size_changes_nothing():
    weights = configs.weights(Network(CONFIG))
    found = fit.resized(weights, CONFIG, CONFIG)
    for name, value in weights.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patch_size": 1}, "patch_size 2 → 1"),
        ({"mid_depth": 3}, "mid_depth 2 → 3"),
        ({"image_shape": (16, 16, 1)}, "data.channels"),
    ],
)
def test_any_other_change_is_refused(changes, words):
    fields = {"encoder_depth": (1,), "decoder_depth": (2,), "mid_depth": 2}
    other = configs.tiny(**(fields | changes))
    with pytest.raises(WeightsError, match=words):
        fit.resized(configs.weights(Network(CONFIG)), CONFIG, other)


def test_a_larger_clip_with_given_frames_takes_the_same_weights():
    small, wide = (
        configs.tiny(
            image_shape=(2, side, side, 3),
            condition=ConditionSpec().with_given(2, (4, side, side, 3)),
        )
        for side in (8, 16)
    )
    found = fit.resized(configs.weights(Network(small)), small, wide)
    network.check(found, Network(wide), "resized", "the larger network")
