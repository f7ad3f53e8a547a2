import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from sid2core.cli import main
from sid2core.metrics import comparison, frechet, statistics
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import dinov2, inception, registry
from sid2core.metrics.networks.own import Architecture, OwnExtractor
from sid2core.metrics.networks.protocol import POOL
from sid2core.metrics.statistics import FeatureStatistics, Moments
from sid2core.pipeline import artifact
from tests.data import pictures

RNG = np.random.default_rng(0)
REAL, DRAWN = (RNG.integers(0, high, (60, 4, 4, 1), dtype=np.uint8) for high in (256, 150))


@pytest.fixture(scope="module")
def extractor():
    architecture = Architecture((4, 4, 1), 3, (8,), 5)
    return OwnExtractor(architecture, jax.device_get(architecture.init(jax.random.key(0))))


@pytest.fixture
def project(tmp_path, monkeypatch, extractor):
    """A folder with the reference artifact, real images and samples."""
    monkeypatch.chdir(tmp_path)
    with artifact.create("reference", {}) as draft:
        registry.save(draft, [extractor], "classifier")
        moments(extractor, REAL, split="train", data="x").save(draft.path("train.npz"))
    np.savez("drawn.npz", DRAWN)
    np.save("real.npy", REAL)
    return tmp_path


def moments(extractor, images, **entries):
    features = extractor.features(images)[POOL]
    return FeatureStatistics.of(features).moments(extractor.provenance | entries)


def run(capsys, *arguments):
    """Exit code, lines on stdout, lines on stderr without those of progress."""
    code = main.main(["fd", *map(str, arguments)])
    said = capsys.readouterr()
    errors = [line for line in said.err.splitlines() if line and not line.startswith("fd:")]
    return code, said.out.splitlines(), errors


def expected(extractor):
    own, train = moments(extractor, DRAWN), moments(extractor, REAL)
    return statistics.distance(own, train), frechet.bias_constant(train.sigma)


def test_samples_against_a_split_by_the_reference_stages_extractor(project, capsys, extractor):
    fd, constant = expected(extractor)
    code, lines, errors = run(capsys, "drawn.npz", "artifacts/reference/train.npz")
    assert (code, errors) == (0, [])
    title, found = lines[0].split(": ")
    assert title == "Fréchet distance (classifier)"
    assert float(found) == pytest.approx(fd, rel=1e-5)
    bias = f"bias C/N {constant / 60:.4g}"
    assert lines[1:] == [
        f"  A: drawn.npz, images of 4x4x1, lossless, N 60, {bias}",
        f"  B: artifacts/reference/train.npz, statistics, N 60, {bias}",
        f"  extractor: classifier ({extractor.digest[:12]}), mode: its own",
        "  not checked, because a file does not record it: image_format",
    ]


def test_images_as_files_measure_the_same(project, capsys):
    for index, image in enumerate(DRAWN):
        pictures.save(project / "png" / f"{index:05d}.png", image[..., 0])
    by_file = run(capsys, "png", "real.npy")[1]
    assert by_file[0] == run(capsys, "drawn.npz", "real.npy")[1][0]
    assert by_file[1].startswith("  A: png, images of 4x4x1, lossless, N 60,")
    assert len(by_file) == 4


def test_a_set_with_itself(project, capsys):
    (first, *_) = run(capsys, "real.npy", "artifacts/reference/train.npz")[1]
    assert float(first.split(": ")[1]) == pytest.approx(0.0, abs=1e-9)


def test_saved_statistics_replace_the_images(project, capsys, extractor):
    first = run(capsys, "drawn.npz", "real.npy", "--save-stats", "a.npz")[1][0]
    saved = Moments.load(project / "a.npz")
    assert saved.n == 60
    assert saved.provenance == extractor.provenance | {
        "image_format": "lossless",
        "shape": [4, 4, 1],
        "declared": [],
    }
    assert run(capsys, "a.npz", "real.npy")[1][0] == first
    code, _, (error,) = run(capsys, "real.npy", "real.npy", "--save-stats", "a.npz")
    assert code == 1
    assert error.startswith("sid2: a.npz exists already")
    assert run(capsys, "real.npy", "real.npy", "--save-stats", "a.npz", "--force")[0] == 0
    np.testing.assert_array_equal(
        Moments.load(project / "a.npz").mu,
        Moments.load(project / "artifacts" / "reference" / "train.npz").mu,
    )


def test_jpeg_is_refused_unless_the_difference_is_named(project, capsys):
    for index, image in enumerate(DRAWN):
        pictures.save(project / "jpeg" / f"{index}.jpg", image[..., 0])
    code, _, (error,) = run(capsys, "jpeg", "real.npy")
    assert code == 1
    assert "differ in image_format ('jpeg' against 'lossless')" in error
    code, lines, _ = run(capsys, "jpeg", "real.npy", "--despite", "image_format")
    assert code == 0
    assert "  despite differences in: image_format" in lines


@pytest.fixture
def inception_of_4(monkeypatch):
    """Inception's distances in so few dimensions that they cost nothing."""
    row = dataclasses.replace(comparison.EXTRACTORS["inception"], features=4)
    monkeypatch.setitem(comparison.EXTRACTORS, "inception", row)


def published(path, mu=0.0, size=4, **entries):
    np.savez(path, mu=np.full(size, mu, np.float32), sigma=np.eye(size, dtype="f4"), **entries)
    return Path(path)


def test_published_statistics_are_a_fid_of_unknown_n(project, capsys, inception_of_4):
    published("adm.npz", arr_0=np.array([{}], dtype=object))
    published("ours.npz", 0.5)
    code, lines, errors = run(capsys, "ours.npz", "adm.npz", "--extractor", "inception")
    assert (code, errors) == (0, [])
    words = "statistics (declared: extractor, mode), N unknown, bias C/N unknown"
    assert lines == [
        "FID (tf1): 1",
        f"  A: ours.npz, {words}",
        f"  B: adm.npz, {words}",
        "  extractor: inception (unknown), mode: tf1",
    ]
    others = ("ours.npz", "adm.npz", "--extractor", "inception", "--mode", "clean")
    assert run(capsys, *others)[1][0] == "FID (clean): 1"
    assert run(capsys, *others, "--unverified")[1][0] == (
        "Fréchet distance (inception, other weights, clean): 1"
    )


class Brightness:
    """Stands for a network of two features: the mean levels of an image's halves."""

    distance, kernel, widths = "fd", "kd", {POOL: 2}

    def __init__(self, name, **entries):
        self.name = name
        self.provenance = {"extractor": name, "extractor_digest": "abc", "resize": "none"} | entries

    def check(self, shape):
        """Any image will do."""

    def save(self, file):
        """There are no weights."""

    @staticmethod
    def features(images):
        halves = np.split(images.astype(np.float32), 2, axis=1)
        return {POOL: np.stack([half.mean(axis=(1, 2, 3)) for half in halves], axis=1)}


@pytest.fixture
def networks(monkeypatch):
    """Both networks are :class:`Brightness`; gives what their loaders were called with."""
    asked = []

    def load_inception(*given, mode):
        asked.append(given)
        return Brightness("inception", mode=mode)

    def load_dinov2(*given):
        asked.append(given)
        return Brightness("dinov2")

    monkeypatch.setattr(inception, "load", load_inception)
    monkeypatch.setattr(dinov2, "load", load_dinov2)
    return asked


@pytest.mark.parametrize(
    ("arguments", "title", "name"),
    [
        (["inception"], "FID (tf1)", "inception"),
        (["inception", "--mode", "clean"], "FID (clean)", "inception"),
        (["dinov2"], "FD-DINOv2", "dinov2"),
        (
            ["inception", "--unverified"],
            "Fréchet distance (inception, other weights, tf1)",
            "inception, other weights",
        ),
        (
            ["dinov2", "--unverified"],
            "Fréchet distance (dinov2, other weights)",
            "dinov2, other weights",
        ),
    ],
)
def test_networks_of_the_users_own_weights(project, capsys, networks, arguments, title, name):
    chosen = ["--extractor", *arguments, "--weights", "w"]
    code, lines, errors = run(capsys, "drawn.npz", "real.npy", *chosen, "--save-stats", "a.npz")
    assert (code, errors) == (0, [])
    assert networks == [(Path("w"), "--unverified" not in arguments)]
    found = [FeatureStatistics.of(Brightness.features(x)[POOL]).moments({}) for x in (DRAWN, REAL)]
    assert lines[0].split(": ")[0] == title
    assert float(lines[0].split(": ")[1]) == pytest.approx(statistics.distance(*found), rel=1e-5)
    mode = "clean" if "clean" in arguments else "tf1" if "inception" in arguments else "its own"
    assert lines[3] == f"  extractor: {name} (abc), mode: {mode}"
    saved = Moments.load(project / "a.npz").provenance
    assert saved["extractor"] == name
    assert saved["shape"] == [4, 4, 1]


def test_what_cannot_be_compared_is_refused_before_any_work(project, capsys, networks, monkeypatch):
    fails = staticmethod(lambda images: pytest.fail("it works before it checks"))
    monkeypatch.setattr(Brightness, "features", fails)
    declared = {"extractor": "inception", "mode": "tf1", "extractor_digest": "other"}
    Moments.published(published("a.npz", size=2), declared).save(project / "b.npz")
    monkeypatch.setitem(
        comparison.EXTRACTORS,
        "inception",
        dataclasses.replace(comparison.EXTRACTORS["inception"], features=2),
    )
    chosen = ["--extractor", "inception", "--weights", "w"]
    code, _, (error,) = run(capsys, "drawn.npz", "b.npz", *chosen)
    assert code == 1
    assert "differ in extractor_digest ('abc' against 'other')" in error


def test_one_set_is_measured_once(project, capsys, networks, monkeypatch):
    measured = []
    measure = comparison.Measurement.moments
    monkeypatch.setattr(
        comparison.Measurement, "moments", lambda *given: measured.append(1) or measure(*given)
    )
    first = run(capsys, "drawn.npz", "drawn.npz")[1][0]
    assert float(first.split(": ")[1]) == pytest.approx(0.0, abs=1e-9)
    assert measured == [1]


def test_a_missing_weight_file_is_named(project, capsys):
    chosen = ["--extractor", "inception", "--weights", "w.pth"]
    code, lines, (error,) = run(capsys, "drawn.npz", "real.npy", *chosen)
    assert (code, lines) == (1, [])
    assert "w.pth" in error
    assert "dvc import-url" in error


def test_statistics_without_provenance_need_a_declaration(project, capsys):
    published("a.npz", size=5)
    for other in ("a.npz", "drawn.npz"):
        code, _, (error,) = run(capsys, "a.npz", other)
        assert code == 1
        assert "a.npz does not say by which extractor it was made" in error
    code, _, (error,) = run(capsys, "a.npz", "a.npz", "--extractor", "inception")
    assert code == 1
    assert "a.npz has 5 features; expected 2048" in error


def test_another_extractor_or_mode_is_refused(project, capsys, extractor):
    declared = {"extractor": "inception", "mode": "tf1"}
    published("a.npz")
    for mode in ("tf1", "clean"):
        Moments.published(project / "a.npz", declared | {"mode": mode}).save(
            project / f"{mode}.npz"
        )
    code, _, (error,) = run(capsys, "tf1.npz", "clean.npz")
    assert code == 1
    assert "differ in mode ('tf1' against 'clean')" in error
    code, _, (error,) = run(capsys, "drawn.npz", "tf1.npz")
    assert code == 1
    assert "extractor ('classifier' against 'inception')" in error
    moments(extractor, REAL, extractor_digest="other").save(project / "other.npz")
    code, _, (error,) = run(capsys, "drawn.npz", "other.npz")
    assert code == 1
    assert "extractor_digest" in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing", "real.npy"], "sid2: path missing not found"),
        (["wide.npy", "real.npy"], "sid2: statistics cannot be compared, they differ in shape"),
        (["one.npy", "real.npy"], "sid2: a covariance needs 2 feature vectors or more, found 1"),
        (
            ["wide.npy", "wide.npy"],
            "sid2: images have shape [4, 8, 1]; the data set's own extractor",
        ),
        (
            ["drawn.npz", "real.npy", "--extractor", "inception"],
            "sid2: to measure images, inception needs",
        ),
        (["drawn.npz", "real.npy", "--mode", "tf1"], "sid2: mode tf1 belongs to inception"),
        (["drawn.npz", "real.npy", "--weights", "x"], "sid2: the reference stage's extractor has"),
        (["drawn.npz", "real.npy", "--unverified"], "sid2: the reference stage's extractor has"),
    ],
)
def test_an_error_is_one_line(project, capsys, arguments, words):
    np.save("one.npy", REAL[:1])
    np.save("wide.npy", np.concatenate([REAL, REAL], axis=2))
    code, lines, (error,) = run(capsys, *arguments)
    assert (code, lines) == (1, [])
    assert error.startswith(words)


def test_without_a_reference_artifact_the_cure_is_named(project, capsys):
    (project / "artifacts" / "reference" / "manifest.json").unlink()
    code, _, (error,) = run(capsys, "drawn.npz", "real.npy")
    assert code == 1
    assert error.endswith("run `dvc repro reference` to make it again")


def test_an_unknown_extractor_is_refused():
    with pytest.raises(MetricsError, match="no extractor 'vgg'; there are reference, inception"):
        comparison.Choice("vgg")


@pytest.mark.parametrize(
    ("provenance", "name"),
    [
        ({"extractor": "inception", "mode": "clean"}, "FID (clean)"),
        ({"extractor": "inception"}, "Fréchet distance (inception)"),
        ({"extractor": "inception, other weights", "mode": "tf1"}, None),
        ({"extractor": "classifier"}, "Fréchet distance (classifier)"),
        ({"extractor": "dinov2"}, "FD-DINOv2"),
    ],
)
def test_only_inception_with_the_published_weights_is_fid(provenance, name):
    expected = name or "Fréchet distance (inception, other weights, tf1)"
    assert comparison.title(provenance) == expected
