import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sid2core.models import network
from sid2core.models.network import Network, WeightsError
from tests.models import configs

TRANSFORMER = {
    "attention_out/bias": (12,),
    "attention_out/kernel": (12, 12),
    "film_attention/linear/bias": (24,),
    "film_attention/linear/kernel": (8, 24),
    "film_mlp/linear/bias": (24,),
    "film_mlp/linear/kernel": (8, 24),
    "mlp_in/bias": (48,),
    "mlp_in/kernel": (12, 48),
    "mlp_out/bias": (12,),
    "mlp_out/kernel": (48, 12),
    "norm_k/scale": (6,),
    "norm_q/scale": (6,),
    "qkv/bias": (36,),
    "qkv/kernel": (12, 36),
}
RES = {
    "conv_in/bias": (4,),
    "conv_in/kernel": (3, 3, 4, 4),
    "conv_out/bias": (4,),
    "conv_out/kernel": (3, 3, 4, 4),
    "film/linear/bias": (8,),
    "film/linear/kernel": (8, 8),
    "norm_in/bias": (4,),
    "norm_in/scale": (4,),
    "norm_out/bias": (4,),
    "norm_out/scale": (4,),
}
NAMES = {
    "conditioning/classes/embedding": (5, 8),
    "conditioning/linear_in/bias": (8,),
    "conditioning/linear_in/kernel": (8, 8),
    "conditioning/linear_out/bias": (8,),
    "conditioning/linear_out/kernel": (8, 8),
    "down/0/project/bias": (12,),
    "down/0/project/kernel": (4, 12),
    "middle/position": (2, 2, 12),
    "norm_out/bias": (4,),
    "norm_out/scale": (4,),
    "patch_in/bias": (4,),
    "patch_in/kernel": (2, 2, 3, 4),
    "patch_out/bias": (3,),
    "patch_out/kernel": (2, 2, 4, 3),
    "up/0/project/kernel": (12, 4),
    **{f"middle/blocks/0/{name}": shape for name, shape in TRANSFORMER.items()},
    **{
        f"{level}/blocks/{index}/{name}": shape
        for level, index in (("encoder/0", 0), ("decoder/0", 0), ("decoder/0", 1))
        for name, shape in RES.items()
    },
}
NET = Network(configs.tiny())


@pytest.fixture
def saved(tmp_path):
    network.save(tmp_path, NET, configs.weights(NET), {"diffusion": {"prediction": "v"}})
    return tmp_path


def edit(folder, change):
    arrays = load_file(folder / network.WEIGHTS)
    change(arrays)
    save_file(arrays, folder / network.WEIGHTS)


def test_names_and_shapes_never_change():
    """Files of weights depend on them."""
    assert {name: one.shape for name, one in NET.shapes().items()} == NAMES


def test_fresh_parameters_have_the_announced_shapes_and_depend_on_the_key():
    init = jax.jit(NET.init)
    first, again, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    assert {name: value.shape for name, value in first.items()} == NAMES
    assert all(value.dtype == jnp.float32 for value in first.values())
    assert all((first[name] == again[name]).all() for name in NAMES)
    assert (first["patch_in/kernel"] != other["patch_in/kernel"]).any()
    kernels = [np.asarray(first[f"decoder/0/blocks/{i}/conv_in/kernel"]) for i in range(2)]
    assert (kernels[0] != kernels[1]).any()


def test_round_trip(saved):
    again, weights, config = network.load(saved)
    assert again == NET
    assert config["diffusion"] == {"prediction": "v"}
    expected = configs.weights(NET)
    assert set(weights) == set(expected)
    for name, value in expected.items():
        assert np.asarray(weights[name]).tobytes() == np.asarray(value).tobytes()


def test_the_same_parameters_give_the_same_bytes(saved, tmp_path):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    _, weights, _ = network.load(saved)
    turned = dict(sorted(weights.items(), reverse=True))
    network.save(tmp_path / "again", NET, turned, {"diffusion": {"prediction": "v"}})
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == before


def test_any_reader_of_safetensors_can_read_them(saved):
    arrays = load_file(saved / network.WEIGHTS)
    assert {name: array.shape for name, array in arrays.items()} == NAMES
    config = json.loads((saved / network.CONFIG).read_text())["network"]
    assert config["channels"] == [4, 12]
    assert config["image_shape"] == [8, 8, 3]


def test_a_missing_array_is_named(saved):
    edit(saved, lambda arrays: arrays.pop("up/0/project/kernel"))
    with pytest.raises(
        WeightsError, match=r"has no up/0/project/kernel, expected \(12, 4\); see model.channels"
    ):
        network.load(saved)


def test_an_array_of_another_shape_is_named(saved):
    edit(saved, lambda arrays: arrays.update({"norm_out/bias": np.zeros(7, np.float32)}))
    with pytest.raises(WeightsError, match=r"norm_out/bias of shape \(7,\), expected \(4,\)"):
        network.load(saved)


def test_an_unknown_array_is_named(saved):
    edit(saved, lambda arrays: arrays.update({"head/bias": np.zeros(7, np.float32)}))
    with pytest.raises(WeightsError, match="has head/bias, which the network does not"):
        network.load(saved)


def test_the_configuration_of_another_model_is_reported(saved):
    path = saved / network.CONFIG
    config = json.loads(path.read_text())
    config["network"]["decoder_depth"] = [3]
    path.write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"has no decoder/0/blocks/2/.*model\.decoder_depth"):
        network.load(saved)


@pytest.mark.parametrize("name", [network.WEIGHTS, network.CONFIG])
@pytest.mark.parametrize("harm", ["missing", "empty", "truncated", "noise"])
def test_a_damaged_file_is_refused_with_the_cure(saved, name, harm):
    path = saved / name
    content = path.read_bytes()
    path.unlink()
    if harm != "missing":
        harmed = {"empty": b"", "truncated": content[: len(content) // 2], "noise": b"\xff" * 99}
        path.write_bytes(harmed[harm])
    with pytest.raises(WeightsError, match="holds no readable model .*copy it again"):
        network.load(saved)


@pytest.mark.parametrize("change", [{"width": 3}, {"channels": None}])
def test_a_configuration_with_other_fields_is_refused(saved, change):
    path = saved / network.CONFIG
    config = json.loads(path.read_text())
    config["network"] |= change
    path.write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="holds no readable model"):
        network.load(saved)
