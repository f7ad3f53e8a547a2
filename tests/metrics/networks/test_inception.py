"""FID's Inception against PyTorch's ports of it, all with the same random weights."""

import dataclasses
import hashlib
import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
import torch

from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import inception, inception_network, pretrained, weights
from sid2core.metrics.networks.batching import Batching
from sid2core.metrics.networks.inception import Inception
from sid2core.metrics.networks.protocol import LOGITS, POOL, SPATIAL
from tests.metrics import fid_peers
from tests.refusals import OTHER_WEIGHTS, RAW_IMAGES, refused

SIZES = [(32, 32), (64, 64), (128, 128), (256, 256), (299, 299), (512, 512), (200, 333)]
"""test_resize.py has them all, in every mode."""
BATCH = 1  # for all tests: the network is compiled for it once


def raw(count, height=48, width=48, channels=3):
    """Noise above, a ramp below, a bright corner: each mode resizes these differently."""
    shape = (count, height, width, channels)
    images = np.random.default_rng(height * width).integers(0, 256, shape, dtype=np.uint8)
    images[:, height // 2 :] = np.linspace(0, 200, width).astype(np.uint8)[:, None]
    images[:, : height // 3, : width // 3] = 255
    return images


def random_tensors():
    """Such that activations neither vanish nor grow on their way: an error shows at the end."""
    rng = np.random.default_rng(0)
    draw = {
        "running_var": lambda shape: rng.uniform(0.5, 1.5, shape),
        "bn.weight": lambda shape: rng.uniform(0.8, 1.2, shape),
        "conv.weight": lambda shape: rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:])),
        "fc.weight": lambda shape: rng.normal(size=shape) / np.sqrt(shape[1]),
        "": lambda shape: 0.2 * rng.normal(size=shape),
    }
    return {
        name: next(make for end, make in draw.items() if name.endswith(end))(shape).astype("f4")
        for name, shape in inception_network.tensor_shapes().items()
    }


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A file as PyTorch writes it, with the counts of batches that the published one may have."""
    state = {name: torch.from_numpy(tensor) for name, tensor in random_tensors().items()}
    for unit in inception_network.KERNELS:
        state[f"{unit}.bn.num_batches_tracked"] = torch.tensor(0)
    made = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(state, made)
    return made


@pytest.fixture(scope="module")
def extractor(path):
    return inception.load(path, verify=False, batching=Batching(BATCH))


@pytest.fixture(scope="module")
def torch_fidelity(path):
    return fid_peers.TorchFidelity(path)


@pytest.fixture(scope="module")
def pytorch_fid(path):
    with pytest.MonkeyPatch.context() as patch:
        yield fid_peers.PytorchFid(path, patch)


def peers_features(outputs):
    """What a port calls its outputs, by kind of feature."""
    names = {POOL: "pool3", LOGITS: "logits_unbiased", SPATIAL: "sfid"}
    return {kind: outputs[name] for kind, name in names.items()}


def assert_close(found, expected, tolerance=1e-5):
    """Every kind within ``tolerance`` of its largest value."""
    assert found.keys() == expected.keys() == Inception.widths.keys()
    for kind, width in Inception.widths.items():
        assert found[kind].shape == expected[kind].shape == (len(found[POOL]), width)
        assert found[kind].dtype == np.float32
        scale = np.abs(expected[kind]).max()
        assert 0.1 < scale < 1000
        assert np.abs(found[kind] - expected[kind]).max() <= tolerance * scale, kind


@pytest.mark.parametrize(
    "size",
    [size if size == (32, 32) else pytest.param(size, marks=pytest.mark.slow) for size in SIZES],
    ids=str,
)
def test_mode_tf1_is_torch_fidelity(extractor, torch_fidelity, size):
    images = raw(1, *size)
    assert_close(extractor.features(images), peers_features(torch_fidelity(images)))


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_mode_torch_is_pytorch_fid(extractor, pytorch_fid, size):
    images, extractor = raw(1, *size), dataclasses.replace(extractor, mode="torch")
    assert_close(extractor.features(images), peers_features(pytorch_fid(images)))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (512, 512), (200, 333)], ids=str)
def test_mode_clean_is_clean_fid(extractor, pytorch_fid, size):
    images, extractor = raw(1, *size), dataclasses.replace(extractor, mode="clean")
    assert_close(extractor.features(images), peers_features(pytorch_fid.clean(images)))


@pytest.mark.parametrize(
    ("mode", "middle", "scale"),
    [("tf1", 128, 128), ("torch", 127.5, 127.5), ("clean", 128, 128)],
)
def test_a_mode_is_a_resize_and_a_scale(extractor, mode, middle, scale):
    """Of a size that all resizes keep, so the network's input is known."""
    images = raw(1, 299, 299)
    found = dataclasses.replace(extractor, mode=mode).features(images)
    x = ((images.astype(np.float64) - middle) / scale).astype(np.float32)
    outputs = inception._network(extractor._replicated, x)
    assert_close(found, {kind: np.asarray(one) for kind, one in peers_features(outputs).items()})


def sharding(devices):
    mesh = jax.make_mesh((devices,), ("data",), devices=jax.devices()[:devices])
    return jax.NamedSharding(mesh, jax.P("data"))


@pytest.mark.slow
def test_features_depend_neither_on_batch_nor_on_devices(extractor):
    """Three images: three batches of one, and a part of one over 4 devices."""
    images = raw(3)
    for mode in ("tf1", "clean"):
        one = dataclasses.replace(extractor, mode=mode)
        shared = dataclasses.replace(one, batching=Batching(1, sharding(4)))
        assert_close(shared.features(images), one.features(images), tolerance=2e-6)


@pytest.mark.slow
def test_features_depend_neither_on_batch_nor_on_devices_in_full(extractor):
    images = raw(16)
    expected = extractor.features(images)
    for size, devices in [(7, None), (64, None), (8, 1), (4, 2), (1, 8)]:
        layout = None if devices is None else sharding(devices)
        other = dataclasses.replace(extractor, batching=Batching(size, layout))
        assert_close(other.features(images), expected, tolerance=2e-6)


def test_one_compilation_serves_all_counts_and_modes(extractor):
    extractor.features(raw(1))
    before = inception._network._cache_size()
    for count, mode in ((1, "tf1"), (2, "torch")):
        dataclasses.replace(extractor, mode=mode).features(raw(count))
    assert inception._network._cache_size() == before


def test_no_images_have_no_features(extractor):
    for mode in inception.MODES:
        found = dataclasses.replace(extractor, mode=mode).features(raw(0))
        assert {kind: part.shape for kind, part in found.items()} == {
            kind: (0, width) for kind, width in Inception.widths.items()
        }


def test_grey_images_are_colour_ones_of_equal_channels(extractor):
    grey = raw(1, channels=1)
    found, expected = extractor.features(grey), extractor.features(np.repeat(grey, 3, axis=-1))
    for kind in Inception.widths:
        np.testing.assert_array_equal(found[kind], expected[kind])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full((2, 8, 8, 3), np.nan, np.float32), re.escape(RAW_IMAGES)),
        (raw(2)[0], "of shape .*expected uint8"),
        (raw(2).transpose(0, 3, 1, 2), r"inception does not accept images of shape \[3, 48, 48\]"),
        (raw(2)[:, None], r"does not accept images of shape \[1, 48, 48, 3\]"),
    ],
)
def test_other_images_are_refused(extractor, images, message):
    with pytest.raises(MetricsError, match=message):
        extractor.features(images)


def test_an_unknown_mode_is_refused(extractor):
    with pytest.raises(MetricsError, match="unknown mode 'tf2'; expected one of tf1, torch, clean"):
        dataclasses.replace(extractor, mode="tf2")


def test_provenance_differs_by_mode_and_weights(extractor):
    made = [dataclasses.replace(extractor, mode=mode).provenance for mode in inception.MODES]
    assert len({json.dumps(one) for one in made}) == 3
    assert [one["extractor"] for one in made] == ["inception"] * 3
    other = dataclasses.replace(
        extractor, tensors=extractor.tensors | {"fc.bias": np.zeros(1008, np.float32)}
    )
    assert other.provenance != made[0]


@pytest.fixture
def as_published(path, monkeypatch):
    """The test's own file in the place of the published one."""
    content = path.read_bytes()
    like = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    monkeypatch.setattr(inception, "PUBLISHED", dataclasses.replace(inception.PUBLISHED, **like))


@pytest.mark.usefixtures("as_published")
def test_a_saved_extractor_is_the_same(path, extractor, tmp_path):
    saved = inception.load(path, mode="clean")
    saved.save(tmp_path.joinpath)
    loaded = Inception.load(tmp_path.joinpath)
    assert loaded.digest == extractor.digest
    assert loaded.provenance == saved.provenance
    assert loaded.origin == inception.PUBLISHED.sha256
    for name, tensor in random_tensors().items():
        np.testing.assert_array_equal(loaded.tensors[name], tensor)
    converted = inception.load(str(tmp_path / pretrained.WEIGHTS))
    assert converted.provenance == extractor.provenance


def test_only_the_published_file_passes_for_it(path, extractor, tmp_path):
    extractor.save(tmp_path.joinpath)
    for file, message in [
        (path, "has [0-9]+ bytes; expected pt_inception-2015-12-05-6726825d.pth"),
        (tmp_path / pretrained.WEIGHTS, OTHER_WEIGHTS),
    ]:
        with pytest.raises(MetricsError, match=message):
            inception.load(file)


def test_a_missing_file_is_asked_for(tmp_path):
    path = tmp_path / "weights" / "inception.pth"
    with refused(MetricsError, path, inception.PUBLISHED.needed(path)):
        inception.load(path)


def test_torchvisions_inception_is_refused(tmp_path):
    fid_peers.admit_torchvision()
    import torchvision

    other = tmp_path / "inception_v3_google.pth"
    torch.save(
        torchvision.models.inception_v3(weights=None, init_weights=False).state_dict(), other
    )
    with pytest.raises(
        MetricsError,
        match=r"torchvision's Inception, another network .*fc\.weight is \(1000, 2048\)",
    ):
        inception.load(other, verify=False)


def test_another_network_is_refused(tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(safetensors.numpy.save({"fc.bias": np.zeros(10, np.float32)}))
    with pytest.raises(
        MetricsError, match=r"is not FID's Inception: .*, and 469 more. It has 1 tensors: fc\.bias"
    ):
        inception.load(other, verify=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [("Mixed_7a.branch3x3_1.conv.weight", np.nan), ("Mixed_5b.branch1x1.bn.running_var", -1)],
)
def test_damaged_values_are_refused(tmp_path, name, value):
    tensors = random_tensors()
    tensors[name].flat[3] = value
    weights.write(tmp_path / "w.safetensors", tensors, "")
    with pytest.raises(MetricsError, match=f"not finite, or variances below zero, in {name}"):
        inception.load(tmp_path / "w.safetensors", verify=False)


def test_pytorch_is_not_needed():
    program = (
        "import sys, sid2core.metrics.networks.inception as _; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
