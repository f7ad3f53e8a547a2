"""Tensors of files of ``torch.save``, without PyTorch and without running code in them.

Both formats: the zip archive (since PyTorch 1.6, and TorchScript's), and the older one of five
pickles and raw storages. Pickles are read by an unpickler that knows only tensors, storages and
dictionaries. It builds inert descriptions and refuses every other name.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[Any]]
"""Arrays by dotted name, as in PyTorch's ``state_dict``."""

_ZIP = b"PK\x03\x04"
_OLD_FORMAT = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled magic number
_OLD_PROTOCOL = 1001
_STORAGES = {
    "BFloat16Storage": np.dtype(jax.dtypes.bfloat16),
    "BoolStorage": np.dtype(np.bool_),
    "ByteStorage": np.dtype(np.uint8),
    "CharStorage": np.dtype(np.int8),
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "IntStorage": np.dtype(np.int32),
    "LongStorage": np.dtype(np.int64),
    "ShortStorage": np.dtype(np.int16),
}
FLOATS = frozenset(_STORAGES[f"{kind}Storage"] for kind in ("BFloat16", "Double", "Float", "Half"))


class UnreadableError(Exception):
    """A file is not a weight file; the message says why."""


def recognises(head: bytes) -> bool:
    """Whether a file that begins with these 16 bytes is one of ``torch.save``."""
    return head.startswith((_ZIP, _OLD_FORMAT))


def read(file: BinaryIO) -> Tensors:
    """All tensors of a file that is :func:`recognised <recognises>`, each with its path as name.

    Raises:
        UnreadableError: the file holds code, or is damaged; a malicious file may also raise any
            other exception.
    """
    head = file.read(len(_ZIP))
    file.seek(0)
    return _from_zip(file) if head == _ZIP else _from_old_format(file)


class _Storage(NamedTuple):
    """Consecutive values in the file, not read yet."""

    key: str
    dtype: np.dtype[Any]


class _Tensor(NamedTuple):
    """A view of a storage; ``offset`` and ``strides`` count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, content: bytes) -> NDArray[Any]:
        """The array, given its storage's bytes; NumPy refuses a view beyond their end."""
        if min(self.shape, default=0) < 0:
            msg = f"it holds a tensor of shape {self.shape}"
            raise UnreadableError(msg)
        dtype = self.storage.dtype
        strides = [step * dtype.itemsize for step in self.strides]
        return np.ndarray(self.shape, dtype, content, self.offset * dtype.itemsize, strides).copy()


class _Module:
    """An object of a TorchScript archive: its attributes, none of its code."""

    attributes: Any = None

    def __setstate__(self, state: Any) -> None:
        self.attributes = state


class _Unpickler(pickle.Unpickler):
    """Builds only dictionaries, lists, numbers and the descriptions above.

    Functions are created anew for each name: a pickle may set attributes of the objects it
    receives, and these must not survive it.
    """

    def find_class(self, module: str, name: str) -> Any:
        """The replacement for a name in the file.

        Raises:
            UnreadableError: tensors do not need this name.
        """
        if module == "torch" and name in _STORAGES:
            return name
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(
                storage, offset, shape, strides
            )
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch.jit._pickle" and re.fullmatch(
            "build_(int|double|bool|tensor)list", name
        ):
            return lambda values: values
        if module.split(".")[0] == "__torch__":
            return _Module
        msg = (
            f"it asks for {module}.{name}, which no tensor needs: it holds code, or a whole "
            "pickled model, and is not run; take the published file, or save a `state_dict` alone"
        )
        raise UnreadableError(msg)

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that a tensor lies in; a view of another storage, of torch 0.3, is refused.

        Raises:
            UnreadableError: something else is referred to.
        """
        kind, storage, key, *rest = pid
        if kind != "storage" or storage not in _STORAGES or rest[2:] not in ([], [None]):
            msg = f"it refers to {pid!r}; expected a plain storage"
            raise UnreadableError(msg)
        return _Storage(str(key), _STORAGES[storage])


def _from_zip(file: BinaryIO) -> Tensors:
    try:
        with zipfile.ZipFile(file) as archive:
            return _from_archive(archive)
    except zipfile.BadZipFile as error:
        msg = f"it is a truncated or damaged archive ({error})"
        raise UnreadableError(msg) from error


def _from_archive(archive: zipfile.ZipFile) -> Tensors:
    names = archive.namelist()
    roots = [name[: -len("data.pkl")] for name in names if re.fullmatch("[^/]+/data.pkl", name)]
    if not roots:
        msg = f"it is a zip archive without the data.pkl of torch.save: {', '.join(names[:5])}"
        raise UnreadableError(msg)
    root = roots[0]
    if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
        msg = "it was written on a big-endian machine; write it again on another"
        raise UnreadableError(msg)
    content = _Unpickler(archive.open(f"{root}data.pkl")).load()
    return _filled(content, lambda storage: archive.read(f"{root}data/{storage.key}"))


def _from_old_format(file: BinaryIO) -> Tensors:
    """Pickles of a magic number, a protocol, the writer's machine, the content, the storages' keys.

    After them each storage, in the keys' order: its length, an int64, and its values.
    """
    _, protocol, machine, content, keys = (_Unpickler(file).load() for _ in range(5))
    if protocol != _OLD_PROTOCOL or not machine["little_endian"]:
        msg = f"it is of protocol {protocol}, {machine}; expected {_OLD_PROTOCOL}, little endian"
        raise UnreadableError(msg)
    dtypes = {tensor.storage.key: tensor.storage.dtype for _, tensor in _named(content)}
    storages = {}
    for key in keys:
        length = int.from_bytes(file.read(8), "little")
        if key not in dtypes:
            msg = f"it has a storage {key!r} that no tensor uses, of unknown size"
            raise UnreadableError(msg)
        size = length * dtypes[key].itemsize
        storages[key] = file.read(size)
        if len(storages[key]) != size:
            msg = f"it ends in the middle of a storage of {size} bytes: it is truncated"
            raise UnreadableError(msg)
    return _filled(content, lambda storage: storages[storage.key])


def _filled(content: Any, load: Callable[[_Storage], bytes]) -> Tensors:
    tensors: Tensors = {}
    for name, tensor in _named(content):
        if name in tensors:
            msg = f"it holds two tensors of the name {name}"
            raise UnreadableError(msg)
        tensors[name] = tensor.of(load(tensor.storage))
    return tensors


def _named(content: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, _Tensor]]:
    """The tensors in nested dictionaries, lists and modules, each with its path."""
    if isinstance(content, _Module):
        content = content.attributes
    if isinstance(content, _Tensor):
        yield ".".join(path), content
    elif isinstance(content, dict):
        for key, value in dict.items(content):
            yield from _named(value, (*path, str(key)))
    elif isinstance(content, list | tuple):
        for index, value in enumerate(content):
            yield from _named(value, (*path, str(index)))
