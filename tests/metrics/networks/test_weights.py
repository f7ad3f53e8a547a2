"""Weight files written by PyTorch itself, by safetensors, and by people who mean harm."""

import dataclasses
import hashlib
import io
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import torchfile, weights
from sid2core.metrics.networks.weights import Published
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def saved(content, *, old):
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


def put(folder, content, name="weights.pth"):
    path = folder / name
    path.write_bytes(content)
    return path


def state(dtype=torch.float32):
    """Views that share a storage, another layout, a scalar, an empty tensor, an integer."""
    base = torch.arange(24).to(dtype)
    return OrderedDict(
        {
            "conv.weight": base.reshape(4, 6).t(),
            "conv.bias": base[3:17:2],
            "scale": base[5],
            "nothing": torch.zeros(0, 3, dtype=dtype),
            "parameter": torch.nn.Parameter(base[:2]),
            "num_batches_tracked": torch.tensor(7),
        }
    )


def arrays_of(content):
    """Values as float64; float types alone."""
    return {
        name: tensor.detach().to(torch.float64).numpy()
        for name, tensor in content.items()
        if tensor.is_floating_point()
    }


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
def test_reads_what_torch_wrote(tmp_path, old, dtype):
    found = weights.read(put(tmp_path, saved(state(dtype), old=old)))
    expected = arrays_of(state(dtype))
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype.name == str(dtype).removeprefix("torch.")
        np.testing.assert_array_equal(tensor.astype(np.float64), expected[name])


def test_a_module_of_batch_norms_as_torch_saves_it(tmp_path):
    """Its ``state_dict`` carries ``_metadata``, and counts of batches."""
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    for old in (False, True):
        found = weights.read(put(tmp_path, saved(module.state_dict(), old=old)))
        expected = arrays_of(module.state_dict())
        assert found.keys() == expected.keys()
        for name, tensor in found.items():
            np.testing.assert_array_equal(tensor, expected[name])


def test_nested_tensors_are_named_by_their_path(tmp_path):
    content = {"model": {"w": torch.ones(2)}, "optimizer": [{"m": torch.ones(3)}], "epoch": 4}
    for old in (False, True):
        found = weights.read(put(tmp_path, saved(content, old=old)))
        assert {name: tensor.shape for name, tensor in found.items()} == {
            "model.w": (2,),
            "optimizer.0.m": (3,),
        }


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_reads_the_parameters_of_torchscript(tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv3d(2, 3, 3), torch.nn.BatchNorm3d(3)).eval()
    path = tmp_path / "script.pt"
    torch.jit.script(module).save(str(path))
    found, expected = weights.read(path), arrays_of(module.state_dict())
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor, expected[name])


def test_reads_safetensors(tmp_path):
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.arange(3)}
    found = weights.read(put(tmp_path, safetensors.numpy.save(tensors)))
    assert found.keys() == {"a"}
    np.testing.assert_array_equal(found["a"], tensors["a"])


class Harm:
    """Unpickled by ``pickle``, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def old_with(pickled):
    """The older format, with ``pickled`` in the place of its content."""
    head = b"".join(
        pickle.dumps(part, 2)
        for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1})
    )
    return head + pickled + pickle.dumps([], 2)


def zip_with(pickled, name="weights/data.pkl"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, pickled)
    return file.getvalue()


@pytest.mark.parametrize("wrap", [zip_with, old_with])
def test_code_is_refused_and_not_run(tmp_path, wrap):
    victim = tmp_path / "victim"
    pickled = pickle.dumps({"w": Harm(victim)}, 2)
    pickle.loads(pickled)["w"].close()
    assert victim.exists()  # so the file is dangerous indeed
    victim.unlink()
    with pytest.raises(MetricsError, match=r"asks for (_?io|__builtin__)\.open.*holds code"):
        weights.read(put(tmp_path, wrap(pickled)))
    assert not victim.exists()


@pytest.mark.parametrize(
    "name", ["posix system", "builtins eval", "torch load", "torch.jit._pickle os", "os _exit"]
)
@pytest.mark.parametrize("wrap", [zip_with, old_with])
def test_every_other_name_is_refused(tmp_path, wrap, name):
    pickled = b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n)R."
    with pytest.raises(MetricsError, match=f"asks for {name.replace(' ', '.')}"):
        weights.read(put(tmp_path, wrap(pickled)))


def test_a_whole_pickled_model_is_refused(tmp_path):
    model = torch.nn.Linear(2, 3)
    for old in (False, True):
        with pytest.raises(MetricsError, match=r"torch\.nn\.modules\.linear\.Linear.*`state_dict`"):
            weights.read(put(tmp_path, saved(model, old=old)))


def test_what_a_pickle_does_to_a_function_ends_with_it():
    """BUILD with a state (None, attributes) sets attributes of whatever lies on the stack."""
    name = ("torch._utils", "_rebuild_tensor_v2")
    marked = "\x80\x02c{}\n{}\nN}}X\x04\0\0\0markK\x01s\x86b.".format(*name).encode("latin-1")
    assert torchfile._Unpickler(io.BytesIO(marked)).load().mark == 1
    assert not hasattr(torchfile._Unpickler(io.BytesIO()).find_class(*name), "mark")


def with_tensor(offset, shape, strides, storage=b"\x00" * 16):
    """An archive of one float tensor, viewed with the given offset, shape and strides."""
    file = io.BytesIO()
    content = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.pid if isinstance(value, Reference) else None

    Pickler(content, 2).dump({"w": Rebuild(offset, shape, strides)})
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights/data.pkl", content.getvalue())
        archive.writestr("weights/data/0", storage)
    return file.getvalue()


class Reference:
    pid = ("storage", torch.FloatStorage, "0", "cpu", 4)


class Rebuild:
    def __init__(self, *view):
        self.view = view

    def __reduce__(self):
        return (torch._utils._rebuild_tensor_v2, (Reference(), *self.view, False, OrderedDict()))


@settings(deadline=None)
@given(
    offset=st.integers(-2, 5),
    axes=st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 4)), max_size=3),
)
def test_a_view_beyond_its_storage_is_refused(tmp_path_factory, offset, axes):
    """``axes``: length and stride of each. What fits is read as NumPy's own indexing reads it."""
    storage = np.arange(4, dtype=np.float32)
    shape, strides = tuple(size for size, _ in axes), tuple(step for _, step in axes)
    content = with_tensor(offset, shape, strides, storage.tobytes())
    path = put(tmp_path_factory.mktemp("view"), content)
    fits = offset >= 0 and min(shape, default=0) >= 0
    index = offset + np.tensordot(strides, np.indices(shape), 1) if fits else np.empty(0)
    if fits and 0 not in shape and 0 <= index.min() and index.max() < 4:
        np.testing.assert_array_equal(weights.read(path)["w"], storage[index.astype(int)])
    elif 0 not in shape:
        with pytest.raises(MetricsError, match="cannot be read as a weight file"):
            weights.read(path)


def files():
    tensors = {"w": np.arange(100, dtype=np.float32)}
    return {
        "zip": saved({"w": torch.arange(100.0)}, old=False),
        "old": saved({"w": torch.arange(100.0)}, old=True),
        "safetensors": safetensors.numpy.save(tensors),
    }


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_a_file_cut_anywhere_is_refused(tmp_path, kind):
    content = files()[kind]
    for end in {0, 1, 7, 8, 9, 15, 16, 17, *range(20, len(content), 23), len(content) - 1}:
        with pytest.raises(MetricsError, match="cannot be read as a weight file"):
            weights.read(put(tmp_path, content[:end]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html><body>Not found", "it is a saved web page"),
        (b"version https://git-lfs.github.com/spec/v1", "it is a Git LFS pointer"),
        (pickle.dumps({"w": [1.0]}), "neither a file of torch.save"),
        (zip_with(b"", "word/document.xml"), "without the data.pkl of torch.save: word/document"),
        (saved({"n": torch.arange(3)}, old=False), "holds no float tensors"),
        (saved({"a": {"b": torch.ones(1)}, "a.b": torch.ones(1)}, old=False), "two tensors of"),
        (saved({}, old=True), "holds no float tensors"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    with pytest.raises(MetricsError, match=message):
        weights.read(put(tmp_path, content))


def published(content):
    path_free = Published("w.pth", len(content), "", "the example project", "https://example.org/w")
    return dataclasses.replace(path_free, sha256=hashlib.sha256(content).hexdigest())


def test_the_published_file_is_obtained(tmp_path):
    content = files()["old"]
    found = weights.obtain(put(tmp_path, content), published(content))
    np.testing.assert_array_equal(found["w"], np.arange(100))


def test_a_missing_file_is_asked_for_with_everything_needed(tmp_path):
    path, expected = tmp_path / "w.pth", published(files()["old"])
    for call in (
        lambda: weights.check(path, expected),
        lambda: weights.obtain(path, expected),
        lambda: weights.obtain(path, expected, verify=False),
    ):
        with refused(
            MetricsError,
            f"{path} not found; expected w.pth of the example project, {expected.size} bytes",
            expected.sha256,
            f"`dvc import-url https://example.org/w {path}`",
        ):
            call()


def test_other_files_than_the_published_one_are_refused(tmp_path):
    content = files()["zip"]
    other = bytes([*content[:-1], content[-1] ^ 1])
    path = put(tmp_path, content)
    with pytest.raises(MetricsError, match=r"has SHA-256 [0-9a-f]{64}; expected w\.pth"):
        weights.obtain(path, published(other))
    with pytest.raises(MetricsError, match=f"has {len(content)} bytes; expected w"):
        weights.obtain(path, published(content[:-1]))
    assert weights.obtain(path, published(other), verify=False).keys() == {"w"}


def test_a_converted_file_stands_for_the_published_one(tmp_path):
    content = files()["old"]
    path, expected = put(tmp_path, content), published(content)
    tensors = weights.obtain(path, expected)
    converted = tmp_path / "new" / "w.safetensors"
    weights.write(converted, tensors, weights.origin(path))
    assert os.listdir(converted.parent) == ["w.safetensors"]
    assert weights.origin(path) == weights.origin(converted) == expected.sha256
    found = weights.obtain(converted, expected)
    assert weights.digest(found) == weights.digest(tensors)
    with pytest.raises(
        MetricsError, match=f"made from a file of SHA-256 {expected.sha256}; expected"
    ):
        weights.obtain(converted, published(files()["zip"]))
    damaged = bytearray(converted.read_bytes())
    damaged[-1] ^= 1
    converted.write_bytes(damaged)
    with pytest.raises(MetricsError, match=f"written with {weights.digest(tensors)}: it is damag"):
        weights.obtain(converted, expected)


def test_digest_depends_on_names_types_shapes_and_values():
    one = {"a": np.zeros((2, 3), np.float32), "b": np.ones(2, np.float32)}
    others = [
        {"a": one["a"], "c": one["b"]},
        {"a": one["a"].reshape(3, 2), "b": one["b"]},
        {"a": one["a"], "b": one["b"].astype(np.float64)},
        {"a": one["a"], "b": -one["b"]},
        {"a": one["a"]},
    ]
    assert len({weights.digest(tensors) for tensors in [one, *others]}) == 6
    assert weights.digest(dict(reversed(one.items()))) == weights.digest(one)
    assert weights.digest({**one, "a": one["a"].T.copy().T}) == weights.digest(one)
