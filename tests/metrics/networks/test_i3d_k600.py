"""The K600 protocol: the whole path from raw clips against PyTorch's own crop and resize."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sid2core.metrics import reference
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import i3d_k600
from sid2core.metrics.networks.batching import Batching
from sid2core.metrics.networks.i3d_k600 import I3DK600
from sid2core.metrics.networks.protocol import POOL
from sid2core.metrics.provenance import check_comparable
from sid2core.pipeline import artifact
from tests.data import stored
from tests.metrics import torch_i3d
from tests.refusals import refused


@pytest.fixture(scope="module")
def narrow():
    """A sixteenth of the channels; the geometry is the same."""
    model = torch_i3d.drawn(divisor=16)
    tensors = {name: one.numpy() for name, one in torch_i3d.published(model).items()}
    return model, I3DK600(tensors, origin="", batching=Batching(1))


def clips_of(count, shape=(16, 70, 90, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def judged(clips):
    """64×64 by PyTorch in float64, [n, f, 64, 64, c]."""
    count, frames, height, width, channels = clips.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    x = torch.from_numpy(clips[:, :, top : top + side, left : left + side]).double()
    x = x.reshape(-1, side, side, channels).permute(0, 3, 1, 2)
    x = F.interpolate(x, size=(64, 64), mode="bilinear", align_corners=False)
    return x.permute(0, 2, 3, 1).reshape(count, frames, 64, 64, -1).numpy()


def assert_close(found, reference):
    assert np.abs(found - reference).max() <= 1e-5 * np.abs(reference).max()


def test_frames_are_cropped_and_resized_as_by_pytorch():
    clips = clips_of(2)
    found = np.asarray(i3d_k600.judged(jnp.asarray(clips)))
    assert_close(found.reshape(2, 16, 64, 64, 3), judged(clips))


@pytest.mark.slow
def test_the_whole_path_is_pytorchs(narrow):
    model, extractor = narrow
    clips = clips_of(2)
    assert_close(extractor.features(clips)[POOL], torch_i3d.of_raw(model, judged(clips)))


def test_six_clips_of_a_video_are_spread_uniformly():
    """Frame t of this video has the number t in its first channel, column x the number x."""
    video = np.zeros((1, 40, 8, 20, 3), np.uint8)
    video[..., 0] += np.arange(40, dtype=np.uint8)[:, None, None]
    video[..., 1] += np.arange(20, dtype=np.uint8)
    found = i3d_k600.real_clips(video)
    assert found.shape == (6, 16, 8, 8, 3)
    assert found[:, 0, 0, 0, 0].tolist() == [0, 0, 0, 24, 24, 24]
    assert found[:, 0, 0, 0, 1].tolist() == [0, 6, 12] * 2
    assert (np.diff(found[:, :, 0, 0, 0].astype(int), axis=1) == 1).all()
    upright = i3d_k600.real_clips(video.swapaxes(2, 3))
    np.testing.assert_array_equal(upright, found.swapaxes(2, 3))


@pytest.mark.parametrize(("shape", "count"), [((16, 8, 8, 3), 1), ((17, 8, 9, 3), 4)])
def test_clips_that_coincide_stand_once(shape, count):
    assert len(i3d_k600.real_clips(np.zeros((2, *shape), np.uint8))) == 2 * count


class FirstPixels(I3DK600):
    """The network replaced: a clip's features are two of its pixels."""

    def features(self, images):
        assert images.shape[1:] == (16, 8, 8, 3)
        return {POOL: images[:, 0, 0, :2, 0].astype(np.float32)}


def test_reference_statistics_have_all_windows_and_crops(narrow, tmp_path):
    """Even if the model knows fewer frames than are stored."""
    clips, labels = stored.records(5, (20, 8, 12, 3))
    dataset = dataclasses.replace(stored.dataset(clips, labels, ("a", "b")), clip_frames=17)
    params = {"data": {"crop": "adm"}}
    with artifact.create("prepare", params, root=tmp_path) as draft:
        decoding = {"frame_stride": 2, "frames_per_second": None}
        draft.metadata |= {"shape": list(clips.shape[1:]), "decoding": decoding}
    prepare = artifact.load("prepare", root=tmp_path)
    extractor = FirstPixels(narrow[1].tensors, "", Batching(1))
    with artifact.create("reference", {}, root=tmp_path) as draft:
        measured = reference.measure(
            extractor, {"train": dataset, "eval": dataset}, prepare, draft, seed=0
        )
    moments = measured.moments["train"]
    assert moments.n == 5 * 2 * 3
    expected = [clips[:, start, 0, left : left + 2, 0] for start in (0, 4) for left in (0, 2, 4)]
    np.testing.assert_allclose(moments.mu, np.concatenate(expected).mean(0))
    assert moments.provenance["real_clips"] == i3d_k600.CLIPS_OF_A_VIDEO
    assert moments.provenance["shape"] == [16, 8, 8, 3]
    samples = {name: one for name, one in moments.provenance.items() if name != "real_clips"}
    check_comparable(samples, moments.provenance)
    with refused(MetricsError, "differ in real_clips"):
        check_comparable(samples | {"real_clips": "one"}, moments.provenance)
    with refused(MetricsError, "differ in frame_stride (1 against 2)"):
        check_comparable(samples | {"frame_stride": 1, "declared": []}, moments.provenance)


def test_another_number_of_frames_is_refused(narrow):
    extractor = narrow[1]
    with refused(MetricsError, "15 frames", "fvd_k600 is defined for 16"):
        extractor.check((15, 64, 64, 3))
    with refused(MetricsError, "17 frames", "measure windows of them"):
        extractor.features(clips_of(1, (17, 8, 8, 3)))
