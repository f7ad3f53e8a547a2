"""CLIP beside transformers on random weights, its files, and the score."""

import copy
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sid2core.metrics.captions import scores
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import clip
from sid2core.metrics.networks.protocol import POOL
from tests.metrics import fid_peers
from tests.metrics.networks import tiny_clip


@pytest.fixture
def folder(tmp_path):
    shapes = clip.Design.of(tiny_clip.CONFIG).shapes()
    return tiny_clip.write(tmp_path / "clip", shapes)


def peer(folder, config):
    """transformers' CLIPModel with the weights of the folder."""
    fid_peers.admit_torchvision()
    import safetensors.torch
    import transformers

    raw = {one: config[one] for one in ("text_config", "vision_config", "projection_dim")}
    for part in ("text_config", "vision_config"):
        raw[part] = raw[part] | {"projection_dim": config["projection_dim"]}
    made = transformers.CLIPConfig(**raw)
    made._attn_implementation = "eager"
    model = transformers.CLIPModel(made).eval()
    state = safetensors.torch.load_file(folder / "model.safetensors")
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert ({one for one in missing if "position_ids" not in one}, unexpected) == (
        {"logit_scale"},
        [],
    )
    return model


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("end", [1, 2])
def test_both_towers_agree_with_transformers(tmp_path, activation, end):
    """To 1e-5 of the largest value; 2 is how old files write that the end is the largest id."""
    import torch

    config = copy.deepcopy(tiny_clip.CONFIG)
    config["text_config"] |= {"hidden_act": activation, "eos_token_id": end}
    config["vision_config"]["hidden_act"] = activation
    design = clip.Design.of(config)
    folder = tiny_clip.write(tmp_path / "clip", design.shapes(), config)
    ours, model = clip.load(folder), peer(folder, config)
    random = np.random.default_rng(1)
    pixels = random.normal(size=(3, 24, 24, 3)).astype(np.float32)
    ids = random.integers(3, 59, (4, 12))
    for row, place in enumerate((11, 5, 1, 7)):
        ids[row, place] = 59 if end == 2 else end
        ids[row, place + 1 :] = 0
    with torch.no_grad():
        found = model(
            input_ids=torch.tensor(ids),
            pixel_values=torch.tensor(pixels.transpose(0, 3, 1, 2).copy()),
        )
    weights = jax.tree.map(jnp.asarray, clip.prepare(ours.tensors))
    images = clip.image_vectors(weights, jnp.asarray(pixels), design)
    texts = clip.text_vectors(weights, jnp.asarray(ids, jnp.int32), design)
    for actual, expected in ((images, found.image_embeds), (texts, found.text_embeds)):
        expected = expected.numpy()
        assert np.abs(np.asarray(actual) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_its_files_give_the_same_vectors(folder, tmp_path):
    one = clip.load(folder)
    one.check((10, 14, 3))
    images = np.random.default_rng(0).integers(0, 256, (3, 10, 14, 3), dtype=np.uint8)
    texts = ["abc", "", "z" * 1000, "A ?"]
    one.save(lambda name: tmp_path / name)
    again = clip.CLIP.load(lambda name: tmp_path / name)
    assert again.provenance == one.provenance
    np.testing.assert_array_equal(again.features(images)[POOL], one.features(images)[POOL])
    np.testing.assert_array_equal(again.texts(texts), one.texts(texts))
    np.testing.assert_allclose(np.linalg.norm(one.texts(texts), axis=1), 1, rtol=1e-5)
    assert one.ids(texts).tolist() == [
        [0, 2, 3, 4, 1, *[0] * 7],
        [0, 1, *[0] * 10],
        [0, *[27] * 10, 1],
        [0, 28, 28, 28, 1, *[0] * 7],
    ]


def test_the_shorter_side_is_resized_and_the_middle_cut():
    image = np.zeros((1, 12, 48, 1), np.uint8)
    image[:, :, 18:30] = 200
    found = clip.resized(image, 24)
    assert found.shape == (1, 24, 24, 3)
    assert found[0, :, 4:20].min() > 190
    np.testing.assert_array_equal(clip.resized(image[:, :, 18:30], 12)[0, ..., 1], 200)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_refused_with_what_belongs_there(folder, name):
    (folder / name).unlink()
    with pytest.raises(MetricsError, match=rf"{folder} has no {name}; expected a folder .*openai"):
        clip.load(folder)


def test_files_that_do_not_fit_are_refused(folder):
    raw = tiny_clip.CONFIG | {"projection_dim": 21}
    (folder / "config.json").write_text(json.dumps(raw))
    with pytest.raises(MetricsError, match=r"visual_projection.weight is \(20, 48\), expected"):
        clip.load(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(MetricsError, match="is not the configuration of a CLIP"):
        clip.load(folder)
    (folder / "config.json").write_text(json.dumps(tiny_clip.CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(MetricsError, match="is no tokenizer"):
        clip.load(folder)


def test_the_score_is_the_mean_cosine_in_percent_without_negative_ones():
    axes = np.eye(3, dtype=np.float32)
    names = ["x", "y", "z"]

    def encode(texts):
        return axes[[names.index(one) for one in texts]]

    vectors = np.stack([axes[0], -axes[1], (axes[1] + axes[2]) / np.sqrt(2)]).astype(np.float32)
    found = scores.clip_score(vectors, encode, ["x", "y", "z"])
    assert found == pytest.approx(100 * (1 + 0 + np.sqrt(0.5)) / 3, rel=1e-6)
