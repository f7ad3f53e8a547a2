import dataclasses
import json
import re

import jax
import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from PIL import Image
from torch.nn import functional as F

from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import dinov2, pretrained, weights
from sid2core.metrics.networks.batching import Batching
from sid2core.metrics.networks.dinov2 import DINOv2
from sid2core.metrics.networks.protocol import POOL
from tests.metrics import torch_dinov2
from tests.refusals import OTHER_WEIGHTS, RAW_IMAGES, refused

MEAN, STD = ([[[a]], [[b]], [[c]]] for a, b, c in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


@pytest.fixture(scope="module")
def model():
    return torch_dinov2.drawn()


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "dinov2.pth"
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def extractor(path):
    return dinov2.load(path, verify=False, batching=Batching(4))


def images_of(count, shape=(40, 50, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def expected(model, images):
    """By Pillow and PyTorch alone."""
    prepared = []
    for image in images:
        whole = Image.fromarray(image).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
        prepared.append(torch.from_numpy(np.array(whole)).permute(2, 0, 1) / 255)
    with torch.no_grad():
        return model((torch.stack(prepared) - torch.tensor(MEAN)) / torch.tensor(STD)).numpy()


def assert_close(found, expected_values):
    assert found.dtype == np.float32
    assert found.shape == expected_values.shape
    assert np.abs(found - expected_values).max() <= 1e-5 * np.abs(expected_values).max()


@pytest.mark.parametrize("shape", [(32, 32, 3), (224, 224, 3), (300, 190, 3)])
def test_the_class_token_is_pytorchs(model, extractor, shape):
    images = images_of(5, shape)
    found = extractor.features(images)[POOL]
    assert_close(found, expected(model, images))
    assert np.linalg.norm(found[0] - found[1]) > 0.01 * np.linalg.norm(found[0])


def test_grey_images_are_repeated(extractor):
    grey = images_of(2, (30, 20, 1))
    colours = np.repeat(grey, 3, axis=-1)
    np.testing.assert_array_equal(extractor.features(grey)[POOL], extractor.features(colours)[POOL])


def test_an_embedding_of_the_right_size_is_taken_as_it_is(tmp_path):
    model = torch_dinov2.drawn(width=64, depth=1, grid=16)
    torch.save(model.state_dict(), tmp_path / "small.pth")
    extractor = dinov2.load(tmp_path / "small.pth", verify=False, batching=Batching(2))
    images = images_of(2)
    assert_close(extractor.features(images)[POOL], expected(model, images))


@settings(deadline=None)
@given(size=st.integers(17, 60))
def test_positions_are_resized_as_pytorch_does(size):
    grid = np.random.default_rng(size).normal(size=(size, size)).astype(np.float32)
    scale = (16 + 0.1) / size
    expected_values = F.interpolate(
        torch.from_numpy(grid)[None, None], scale_factor=scale, mode="bicubic"
    )
    matrix = dinov2.bicubic(size, 16)
    np.testing.assert_allclose(matrix @ grid @ matrix.T, expected_values[0, 0].numpy(), atol=2e-5)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-12)


def test_both_publishers_names_give_one_extractor(model, extractor, tmp_path):
    state = torch_dinov2.hugging_face(model.state_dict())
    assert len(state) == 18 * 2 + 7  # as transformers counts them: 18 a block, 7 besides
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    headed = {f"dinov2.{name}": one for name, one in state.items()} | {"fc.bias": torch.ones(3)}
    safetensors.torch.save_file(headed, tmp_path / "headed.safetensors")
    for name in ("model", "headed"):
        other = dinov2.load(tmp_path / f"{name}.safetensors", verify=False)
        assert other.digest == extractor.digest
        assert other.provenance == extractor.provenance


def test_saved_and_loaded_is_the_same(path, extractor, tmp_path, monkeypatch):
    extractor.save(tmp_path.joinpath)
    with refused(MetricsError, OTHER_WEIGHTS):
        dinov2.load(tmp_path / pretrained.WEIGHTS)
    made = (dataclasses.replace(dinov2.PUBLISHED[1], sha256=weights.origin(path)),)
    monkeypatch.setattr(dinov2, "PUBLISHED", (dinov2.PUBLISHED[0], *made))
    assert DINOv2.load(tmp_path.joinpath).provenance == extractor.provenance
    loaded = dinov2.load(tmp_path / pretrained.WEIGHTS)
    assert (loaded.digest, loaded.origin) == (extractor.digest, extractor.origin)
    assert json.loads(json.dumps(loaded.provenance)) == loaded.provenance


def test_batches_and_devices_do_not_matter(extractor):
    images = images_of(7)
    whole = extractor.features(images)[POOL]
    assert extractor.features(images[:0])[POOL].shape == (0, 128)
    for start in (0, 3, 6):
        np.testing.assert_array_equal(extractor.features(images[start:])[POOL], whole[start:])
    sharding = NamedSharding(Mesh(jax.devices()[:2], ("data",)), PartitionSpec("data"))
    shared = dataclasses.replace(extractor, batching=Batching(2, sharding))
    assert_close(shared.features(images)[POOL], whole)


def test_the_published_size_is_that_of_vit_large():
    """As many parameters as Meta's model card counts, 304 million."""
    tensors = {"norm.weight": np.zeros(1024), "blocks.23.x": np.zeros(1)}
    count = sum(int(np.prod(shape)) for shape in dinov2.shapes(tensors).values())
    assert count == 304_367_616
    for one in dinov2.PUBLISHED:
        assert 4 * count < one.size < 4 * count + 200_000


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (images_of(2).astype(np.float32), re.escape(RAW_IMAGES)),
        (images_of(2)[0], re.escape(RAW_IMAGES)),
        (images_of(2, (8, 8, 2)), r"dinov2 does not accept images of shape \[8, 8, 2\]"),
    ],
)
def test_other_images_are_refused(extractor, images, message):
    with pytest.raises(MetricsError, match=message):
        extractor.features(images)


def without(state, name):
    return {key: one for key, one in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: without(state, "cls_token"), "cls_token is missing, expected (1, 1, 128)"),
        (lambda state: without(state, "blocks.1.attn.proj.bias"), "blocks.1.attn.proj.bias is"),
        (lambda state: {**state, "register_tokens": torch.zeros(1, 4, 128)}, "with registers"),
        (
            lambda state: {**state, "norm.bias": torch.full((128,), torch.nan)},
            "values are not finite, or variances below zero, in norm.bias",
        ),
        (lambda state: {"fc.weight": torch.zeros(3, 2)}, "and 17 more. It has 1 tensors: fc.wei"),
    ],
)
def test_other_networks_are_refused(model, tmp_path, change, message):
    torch.save(change(model.state_dict()), tmp_path / "other.pth")
    with pytest.raises(MetricsError, match=re.escape(message)):
        dinov2.load(tmp_path / "other.pth", verify=False)


def test_a_missing_or_other_file_names_what_is_needed(path, tmp_path):
    with pytest.raises(MetricsError, match=r"not found; .*`dvc import-url https://huggingface"):
        dinov2.load(str(tmp_path / "missing.safetensors"))
    with pytest.raises(MetricsError, match=r"bytes; .* 1217522888 bytes, SHA-256 399fba97"):
        dinov2.load(path)
