import dataclasses
import json
import re

import jax
import numpy as np
import pytest
import torch
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sid2core.metrics import statistics
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import i3d, pretrained, weights
from sid2core.metrics.networks.batching import Batching
from sid2core.metrics.networks.i3d import I3D
from sid2core.metrics.networks.protocol import POOL
from sid2core.metrics.statistics import FeatureStatistics
from tests.metrics import torch_i3d
from tests.refusals import OTHER_WEIGHTS, refused


@pytest.fixture(scope="module")
def model():
    return torch_i3d.drawn()


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "rgb.pt"
    torch.save(torch_i3d.published(model), path)
    return path


@pytest.fixture(scope="module")
def extractor(path):
    return i3d.load(path, verify=False, batching=Batching(1))


@pytest.fixture(scope="module")
def narrow():
    """A sixteenth of the channels; the geometry is the same."""
    model = torch_i3d.drawn(divisor=16)
    tensors = {name: one.numpy() for name, one in torch_i3d.published(model).items()}
    return model, I3D(tensors, origin="", batching=Batching(2))


def videos_of(count, frames, shape=(24, 40, 3), seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, frames, *shape), dtype=np.uint8)


def assert_close(found, reference):
    assert found.dtype == np.float32
    assert found.shape == reference.shape
    assert np.abs(found - reference).max() <= 1e-5 * np.abs(reference).max()


def test_the_logits_are_pytorchs(model, extractor):
    """At full width; 10 frames come to odd numbers on the way, where paddings differ."""
    videos = videos_of(1, 10)
    assert_close(extractor.features(videos)[POOL], torch_i3d.of_raw(model, videos))


@pytest.mark.slow
@pytest.mark.parametrize("frames", [16, 17])  # even, and odd, at every stage
def test_any_number_of_frames(narrow, frames):
    model, extractor = narrow
    videos = videos_of(3, frames, shape=(240, 224, 3))
    found = extractor.features(videos)[POOL]
    assert_close(found, torch_i3d.of_raw(model, videos))
    assert np.linalg.norm(found[0] - found[1]) > 1e-3 * np.linalg.norm(found[0])


def test_clips_of_a_batch_do_not_touch_each_other(narrow):
    """And grey ones are repeated to three channels."""
    model, extractor = narrow
    grey = videos_of(3, 10, shape=(20, 30, 1))
    whole = extractor.features(grey)[POOL]
    assert_close(whole, torch_i3d.of_raw(model, np.repeat(grey, 3, axis=-1)))
    np.testing.assert_array_equal(extractor.features(grey[2:])[POOL], whole[2:])
    assert extractor.features(grey[:0])[POOL].shape == (0, 400)


@pytest.mark.slow
def test_devices_do_not_matter(narrow):
    _, extractor = narrow
    videos = videos_of(3, 10)
    sharding = NamedSharding(Mesh(jax.devices()[:2], ("data",)), PartitionSpec("data"))
    shared = dataclasses.replace(extractor, batching=Batching(1, sharding))
    assert_close(shared.features(videos)[POOL], extractor.features(videos)[POOL])


def test_fvd_is_the_frechet_distance_of_the_logits(extractor):
    """Statistics of other frame numbers, or of another network, are refused by name."""
    rng = np.random.default_rng(0)
    provenance = {**extractor.provenance, "shape": [16, 24, 40, 3]}
    ours, theirs = (
        FeatureStatistics.of(rng.normal(size=(9, 400))).moments(provenance) for _ in range(2)
    )
    assert statistics.distance(ours, theirs) > 0
    for change in ({"shape": [17, 24, 40, 3]}, {"resize": "torch 224"}):
        with pytest.raises(MetricsError, match="differ in"):
            statistics.distance(ours, dataclasses.replace(theirs, provenance=provenance | change))
    assert json.loads(json.dumps(ours.provenance)) == ours.provenance


def test_saved_and_loaded_is_the_same(path, extractor, tmp_path, monkeypatch):
    extractor.save(tmp_path.joinpath)
    with refused(MetricsError, OTHER_WEIGHTS):
        i3d.load(tmp_path / pretrained.WEIGHTS)
    made = (dataclasses.replace(i3d.PUBLISHED[1], sha256=weights.origin(path)),)
    monkeypatch.setattr(i3d, "PUBLISHED", (i3d.PUBLISHED[0], *made))
    assert I3D.load(tmp_path.joinpath).provenance == extractor.provenance
    loaded = i3d.load(tmp_path / pretrained.WEIGHTS)
    assert (loaded.digest, loaded.origin) == (extractor.digest, extractor.origin)


def test_a_published_file_is_verified(path, monkeypatch):
    """By size it is known which of the two is meant, by SHA-256 that it is whole."""
    size = path.stat().st_size
    good = dataclasses.replace(i3d.PUBLISHED[1], size=size, sha256=weights.origin(path))
    monkeypatch.setattr(i3d, "PUBLISHED", (i3d.PUBLISHED[0], good))
    assert i3d.load(path).origin == good.sha256
    damaged = dataclasses.replace(good, sha256="0" * 64)
    monkeypatch.setattr(i3d, "PUBLISHED", (i3d.PUBLISHED[0], damaged))
    with pytest.raises(MetricsError, match=r"has SHA-256 .* expected i3d_torchscript.pt"):
        i3d.load(path)


class Holder(torch.nn.Module):
    """Tensors by their paths, as the modules of a scripted network hold them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def hold(self, path, tensor):
        first, _, rest = path.partition(".")
        if not rest:
            self.register_buffer(first, tensor)
            return
        if first not in self._modules:
            self.add_module(first, Holder())
        self._modules[first].hold(rest, tensor)


def other_name(name):
    """As hassony2/kinetics_i3d_pytorch calls it."""
    name = name.replace("logits.", "conv3d_0c_1x1.").replace(".bn.", ".batch3d.")
    name = name.replace("Conv3d", "conv3d").replace("Mixed", "mixed").replace(".b0.", ".branch_0.")
    name = re.sub(r"\.b([12])a\.", r".branch_\1.0.", name)
    return re.sub(r"\.b([123])b\.", r".branch_\1.1.", name)


def test_a_torchscript_archive_of_other_names_gives_the_same(model, extractor, tmp_path):
    holder = Holder()
    for name, tensor in torch_i3d.published(model).items():
        holder.hold(other_name(name), tensor)
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.script(holder).save(tmp_path / "scripted.pt")
    assert i3d.load(tmp_path / "scripted.pt", verify=False).digest == extractor.digest


def test_the_published_size_is_that_of_these_shapes():
    """12.7 million parameters, as the TensorFlow model is described, and the norms' statistics."""
    sizes = {name: int(np.prod(shape)) for name, shape in i3d.shapes().items()}
    assert len(sizes) == 57 * 5 + 2
    count = sum(size for name, size in sizes.items() if "running" not in name)
    assert 12.69e6 < count < 12.71e6
    for one in i3d.PUBLISHED:
        assert 4 * sum(sizes.values()) < one.size < 4 * sum(sizes.values()) + 500_000


def test_too_few_frames(narrow):
    with pytest.raises(MetricsError, match="clips have 9 frames; I3D needs 10 or more: sample"):
        narrow[1].features(videos_of(1, 9))


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        (videos_of(1, 16) / 255, r"expected uint8 of .*\[n, f, h, w, c\]"),
        (videos_of(1, 16)[0], r"i3d does not accept clips of shape \[24, 40, 3\]"),
        (videos_of(1, 16, (8, 8, 4)), r"i3d does not accept clips of shape \[16, 8, 8, 4\]"),
    ],
)
def test_other_videos_are_refused(narrow, videos, message):
    with pytest.raises(MetricsError, match=message):
        narrow[1].features(videos)


def flow(state):
    """The network of optical flow has two channels."""
    name = "Conv3d_1a_7x7.conv3d.weight"
    return {**state, name: state[name][:, :2]}


def negative(state):
    name = "Mixed_3b.b0.bn.running_var"
    return {**state, name: -state[name]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (flow, "not the RGB I3D of Kinetics-400: Conv3d_1a_7x7.conv3d.weight is (64, 2, 7, 7, 7)"),
        (negative, "or variances below zero, in Mixed_3b.b0.bn.running_var; use the published"),
        (lambda state: {"fc.weight": torch.zeros(1)}, "and 284 more. It has 1 tensors: fc.weight"),
    ],
)
def test_other_networks_are_refused(model, tmp_path, change, message):
    torch.save(change(torch_i3d.published(model)), tmp_path / "other.pt")
    with pytest.raises(MetricsError, match=re.escape(message)):
        i3d.load(tmp_path / "other.pt", verify=False)


def test_a_missing_or_other_file_names_what_is_needed(path, tmp_path):
    with pytest.raises(MetricsError, match=r"not found; .*`dvc import-url https://github\.com"):
        i3d.load(str(tmp_path / "missing.pt"))
    with pytest.raises(MetricsError, match=r"bytes; .* 50883138 bytes, SHA-256 2609088c"):
        i3d.load(path)
