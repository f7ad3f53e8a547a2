"""The formats with a drawing program, loaded as a user loads them.

`sid2 export` itself compares each export in a fresh process; here are the sizes of batches, the
program's options and what can be read back.
"""

import importlib.util
import sys

import jax
import numpy as np
import pytest
from jax import export
from PIL import Image

import sid2core
from sid2core.exporting import cases, folder, onnx, stablehlo
from sid2core.models.fit import WeightsError
from tests.exporting import models
from tests.exporting.test_folder import written
from tests.inference import continuing
from tests.refusals import refused

HOW = {"steps": 3, "guidance": 0.7, "interval": (-3.0, 6.0)}


def program(place, monkeypatch):
    """The module ``draw.py`` of an export, which finds its own files beside it."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(place)
    for name in ("options", "sampling", "tokens"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location("draw", place / "draw.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def drawn(place, monkeypatch, out, *options):
    """What ``python draw.py`` with these options writes to ``out``."""
    monkeypatch.setattr(sys, "argv", ["draw.py", *map(str, options), "--out", str(out)])
    program(place, monkeypatch).main()
    return np.load(out) if out.suffix == ".npy" else np.asarray(Image.open(out))


def inputs(model, count):
    draws, shape = np.random.default_rng(count), model.trained.shape.image_shape
    return {
        "z": draws.normal(size=(count, *shape)).astype(np.float32),
        "logsnr": np.linspace(-12, 9, count, dtype=np.float32),
        "labels": np.arange(count, dtype=np.int32)[::-1] % 4,  # 3 is the null class
    }


def close(found, expected):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return models.exported(models.of_classes(tmp_path_factory.mktemp("model")), **HOW)


@pytest.fixture(scope="module")
def programs(labelled, tmp_path_factory):
    return written(labelled, tmp_path_factory.mktemp("stablehlo") / "export", "stablehlo")


@pytest.fixture(scope="module")
def graph(labelled, tmp_path_factory):
    place = tmp_path_factory.mktemp("onnx") / "export"
    folder.write(labelled, "onnx", place)
    return place


def test_one_program_takes_every_batch_size(labelled, programs, monkeypatch):
    model = program(programs, monkeypatch).load(programs)
    for count in (1, 3):
        case = inputs(labelled, count)
        close(model.network(**case), cases.network_output(labelled, case))


def test_the_programs_are_for_three_platforms_and_hold_no_weights(labelled, programs):
    shapes = {name: one.shape for name, one in labelled.trained.params.items()}
    for name in (stablehlo.DENOISER, stablehlo.SAMPLER):
        found = export.deserialize(bytearray((programs / name).read_bytes()))
        assert found.platforms == ("cpu", "cuda", "tpu")
        arguments, _ = jax.tree.unflatten(found.in_tree, found.in_avals)
        assert {name: one.shape for name, one in arguments[0].items()} == shapes


def test_jax_alone_draws_what_sid2_sample_draws(labelled, programs, monkeypatch, tmp_path):
    options = ("--class", "dog", "--count", 3, "--seed", 5)
    found = drawn(programs, monkeypatch, tmp_path / "drawn.npy", *options)
    request = labelled.request.replaced(label=["dog"], count=3, seed=5)
    expected = sid2core.load_model(request.model).draw(request)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 1  # where rounding meets a half


def test_weights_are_read_back(labelled, programs):
    shapes = {name: np.shape(one) for name, one in labelled.trained.params.items()}
    found = stablehlo.read(programs, shapes)
    assert all(np.array_equal(found[name], labelled.trained.params[name]) for name in shapes)
    with refused(WeightsError, "weights.npz", "patch_in/bias", "of another network"):
        stablehlo.read(programs, shapes | {"patch_in/bias": (99,)})


@pytest.mark.slow
def test_a_graph_is_small_and_has_the_names_of_its_weights(labelled, graph):
    import onnx as library

    model = library.load(graph / onnx.DENOISER)
    library.checker.check_model(model, full_check=True)
    assert [one.version for one in model.opset_import if not one.domain] == [onnx.OPSET]
    assert {node.domain for node in model.graph.node} == {""}  # operations of ONNX alone
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    params = labelled.trained.params
    back = onnx.read(graph, {name: np.shape(one) for name, one in params.items()})
    assert all(np.array_equal(back[name], params[name]) for name in params)
    constants = sum(one.ByteSize() for one in model.graph.initializer)
    assert constants < 1.2 * sum(np.asarray(one).nbytes for one in params.values()) + 10_000


@pytest.mark.slow
def test_one_graph_takes_every_batch_size(labelled, graph, monkeypatch):
    model = program(graph, monkeypatch).load(graph)
    for count in (1, 3):
        case = inputs(labelled, count)
        close(model.network(**case), cases.network_output(labelled, case))


@pytest.mark.slow
def test_numpy_draws_what_our_samplers_draw(labelled, graph, monkeypatch, tmp_path):
    model = program(graph, monkeypatch).load(graph)
    case = cases.drawing_inputs(labelled, free=False)
    close(model.draw(**case), cases.drawing(labelled, case))
    picture = drawn(graph, monkeypatch, tmp_path / "drawn.png", "--class", "cat", "2", "--count", 2)
    assert picture.shape == (8, 16, 3)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["stablehlo", "onnx"])
def test_texts_and_given_frames_are_conditions(form, tmp_path, monkeypatch):
    texts = models.exported(models.of_text(tmp_path / "texts"), **HOW)
    folder.write(texts, form, tmp_path / "of-text")  # compared in a fresh process
    options = ("--prompt", "a red ring", "--class", "dog", "--count", 2)
    found = drawn(tmp_path / "of-text", monkeypatch, tmp_path / "text.npy", *options)
    assert found.shape == (2, *texts.trained.shape.image_shape)

    clips = models.exported(models.of_clips(tmp_path / "clips"), **HOW)
    folder.write(clips, form, tmp_path / "of-clips")
    given = np.full((continuing.GIVEN, continuing.SIDE, continuing.SIDE, 1), 77, np.uint8)
    np.save(tmp_path / "given.npy", given)
    options = ("--class", "1", "--given", tmp_path / "given.npy")
    found = drawn(tmp_path / "of-clips", monkeypatch, tmp_path / "clip.npy", *options)
    assert found.shape == (1, continuing.FRAMES, continuing.SIDE, continuing.SIDE, 1)
    assert np.array_equal(found[0, : continuing.GIVEN], given)
