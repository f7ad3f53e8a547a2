import pytest

from sid2core.models import cost
from sid2core.models.uvit import UViTConfig
from tests.models.configs import PUBLISHED


def published(size, patch, **changes):
    return UViTConfig(image_shape=(size, size, 3), patch_size=patch, **(PUBLISHED | changes))


@pytest.mark.parametrize(
    ("size", "patch", "gflops"),
    [(512, 2, 652.8), (512, 4, 137.4), (256, 1, 652.8), (256, 2, 137.4), (128, 1, 137.4)],
)
def test_the_published_models_cost_what_is_published(size, patch, gflops):
    assert cost.forward_gflops(published(size, patch)) == pytest.approx(gflops, rel=1e-3)


def test_the_flop_heavy_model_at_128_has_one_level_less():
    config = published(
        128,
        1,
        channels=(256, 512, 1024),
        blocks=("res", "transformer", "transformer"),
        encoder_depth=(3, 3),
        decoder_depth=(3, 3),
        dropout=(0.0, 0.1, 0.1),
    )
    assert cost.forward_gflops(config) == pytest.approx(536.9, rel=1e-3)


def test_the_cost_falls_apart_into_levels():
    expected = [115.964, 115.964, 180.389, 240.518]
    assert cost.level_gflops(published(512, 2)) == pytest.approx(expected, rel=1e-5)


def test_encoder_and_decoder_cost_the_same_a_block():
    assert cost.forward_gflops(published(512, 2, encoder_depth=(2, 3, 4))) == pytest.approx(
        cost.forward_gflops(published(512, 2, decoder_depth=(2, 3, 4)))
    )


def test_an_oblong_image_costs_by_its_area_in_convolutions():
    convolutions = {"blocks": ("res",) * 4}
    square = published(64, 1, **convolutions)
    oblong = UViTConfig(image_shape=(32, 128, 3), patch_size=1, **(PUBLISHED | convolutions))
    assert cost.forward_gflops(square) == pytest.approx(cost.forward_gflops(oblong))


def test_training_costs_three_forwards_an_image():
    config = published(512, 2)
    images = 2048 * 800_000
    assert cost.training_pflops(config, images) == pytest.approx(652.8e9 * 3 * images / 1e15, 1e-3)
