import io

import jax
import numpy as np
import pytest
from PIL import Image

from sid2core.conditioning import ConditionSpec
from sid2core.config import build
from sid2core.models.network import Network
from sid2core.training import samples
from sid2core.training.mesh import ONE_DEVICE
from sid2core.training.samples import COLUMNS, ROWS, Samples
from tests import tiny


@pytest.mark.parametrize(
    ("shape", "factor"),
    [((8, 8, 1), 4), ((8, 8, 3), 4), ((20, 33, 3), 1), ((5, 40, 40, 3), 1)],
)
def test_a_grid_has_each_image_in_its_place(shape, factor):
    draws = np.random.default_rng(0)
    count = ROWS if len(shape) == 4 else ROWS * COLUMNS
    images = draws.integers(0, 256, (count, *shape)).astype(np.uint8)
    shown = np.asarray(Image.open(io.BytesIO(samples.png(images))))
    stills = images
    if images.ndim == 5:  # a row of frames at equal distances
        stills = images[:, [0, 1, 1, 2, 2, 3, 3, 4]].reshape(-1, *shape[1:])
    height, width = stills.shape[1:3]
    assert shown.shape[:2] == (ROWS * height * factor, COLUMNS * width * factor)
    small = shown[::factor, ::factor].reshape(ROWS * height, COLUMNS * width, -1)
    for number, image in enumerate(stills):
        top, left = number // COLUMNS * height, number % COLUMNS * width
        assert (small[top : top + height, left : left + width] == image).all()


@pytest.fixture
def drawn(tmp_path):
    params = tiny.params()
    spec = ConditionSpec.of_classes(10)
    net = Network(build.network(params.model, (8, 8, 1), spec))
    method = samples.method(tiny.objective(params, net), params.sampling)
    condition = spec.asked(samples.COUNT)
    made = Samples(
        method, lambda: condition, params.seed, ONE_DEVICE, tmp_path / "kept", tmp_path / "shown"
    )
    return made, {"ema": jax.jit(net.init)(jax.random.key(0))}


def test_a_grid_is_of_the_average_and_the_same_each_time(drawn, tmp_path):
    made, state = drawn
    before = jax.tree.map(np.array, state)
    made(10, state)
    made(20, state | {"params": None})
    first, again = (tmp_path / "shown" / f"{step}.png" for step in (10, 20))
    assert first.read_bytes() == again.read_bytes()
    other = jax.tree.map(lambda one: 1.5 * one + 0.1, state["ema"])
    made(30, {"ema": other})
    assert (tmp_path / "shown" / "30.png").read_bytes() != first.read_bytes()
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), state, before))


def test_what_was_drawn_before_a_kill_is_shown_again_and_nothing_else(drawn, tmp_path):
    made, state = drawn
    made(10, state)
    content = (tmp_path / "kept" / "10.png").read_bytes()
    (tmp_path / "shown" / "10.png").unlink()
    (tmp_path / "shown" / "999.png").write_bytes(b"of another run")
    made.restore()
    assert {path.name: path.read_bytes() for path in (tmp_path / "shown").iterdir()} == {
        "10.png": content
    }


def test_a_damaged_grid_is_reported_and_not_shown(drawn, tmp_path, caplog):
    made, state = drawn
    made(10, state)
    (tmp_path / "kept" / "10.png").write_bytes(b"")
    made.restore()
    assert "10.png is damaged" in caplog.text
    assert not (tmp_path / "shown").exists()


def test_nothing_drawn_is_nothing_shown(drawn, tmp_path):
    made, _ = drawn
    (tmp_path / "shown").mkdir()
    made.restore()
    assert not (tmp_path / "shown").exists()
