"""``sid2 fd`` of clips: I3D with weights from a seed against PyTorch, and the data set's own."""

import jax
import numpy as np
import pytest
import torch

import sid2core
from sid2core.cli import main
from sid2core.metrics.networks import i3d, registry
from sid2core.metrics.networks.own import Architecture, OwnExtractor
from sid2core.pipeline import artifact
from tests.data import pictures
from tests.metrics import torch_i3d

CLIPS = np.random.default_rng(0).integers(0, 256, (5, 10, 24, 20, 3), dtype=np.uint8)
FIRST, SECOND = CLIPS[:2], CLIPS[2:] // 2


def run(capsys, *arguments):
    """Exit code, lines on stdout, and what is on stderr."""
    code = main.main(["fd", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err


def distance(lines):
    return float(lines[0].split(": ")[1])


def weights(path, divisor, monkeypatch):
    """A file of weights from a seed; those of a narrow network are then what is expected."""
    model = torch_i3d.drawn(divisor, seed=7)
    torch.save(torch_i3d.published(model), path)
    shapes = {name: tuple(one.shape) for name, one in torch_i3d.published(model).items()}
    monkeypatch.setattr(i3d, "shapes", lambda: shapes)
    return model


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """One set as an array in a folder, one as folders of frames."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "arrays").mkdir()
    np.savez(tmp_path / "arrays/first.npz", FIRST)
    for number, clip in enumerate(SECOND):
        for index, frame in enumerate(clip):
            pictures.save(tmp_path / f"frames/{number}/frame{index + 1}.png", frame)


@pytest.mark.usefixtures("sets")
@pytest.mark.parametrize("divisor", [16, pytest.param(1, marks=pytest.mark.slow)])
def test_fvd_of_two_folders_is_pytorchs(capsys, monkeypatch, divisor):
    model = weights("seeded.pt", divisor, monkeypatch)
    options = ("--extractor", "i3d", "--weights", "seeded.pt", "--unverified")
    code, lines, error = run(capsys, "arrays", "frames", *options, "--save-stats", "first.npz")
    assert code == 0, error
    features = [torch_i3d.of_raw(model, one) for one in (FIRST, SECOND)]
    assert distance(lines) == pytest.approx(torch_i3d.distance(*features), rel=1e-5)
    assert lines[0].startswith("Fréchet distance (i3d, other weights)")
    assert lines[1].startswith("  A: arrays, clips of 10x24x20x3, lossless, N 2,")
    code, _, error = run(capsys, "first.npz", "frames", *options, "--size", "40")
    assert code != 0
    assert "differ in shape ([10, 24, 20, 3] against [10, 48, 40, 3])" in error


@pytest.mark.usefixtures("sets")
def test_clips_too_short_for_the_protocol_are_refused(capsys, monkeypatch):
    weights("seeded.pt", 16, monkeypatch)
    options = ("--extractor", "i3d_k600", "--weights", "seeded.pt", "--unverified")
    code, _, error = run(capsys, "arrays", "frames", *options)
    assert code != 0
    assert "clip 0 has 10 frames; 16 are measured" in error


@pytest.mark.usefixtures("sets")
def test_clips_by_the_reference_stages_extractor(capsys):
    architecture = Architecture((10, 24, 20, 3), 3, (4, 4), 5)
    own = OwnExtractor(architecture, jax.device_get(architecture.init(jax.random.key(0))))
    with artifact.create("reference", {}) as draft:
        registry.save(draft, [own], "classifier")
    code, lines, error = run(capsys, "arrays/first.npz", "frames")
    assert code == 0, error
    assert lines[0].startswith("Fréchet distance (classifier)")
    assert distance(lines) > 0
    sid2core.save_samples(FIRST, "played", "mp4")
    code, _, error = run(capsys, "arrays/first.npz", "played")
    assert code != 0
    assert "differ in image_format ('lossless' against 'video')" in error
    despite = ("--despite", "image_format")
    code, lines, error = run(capsys, "arrays/first.npz", "played", *despite)
    assert code == 0, error
    assert lines[2].startswith("  B: played, clips of 10x24x20x3, video, N 2,")
    assert distance(lines) > 0
