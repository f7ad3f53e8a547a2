"""Published weight files: checked, and read without running code in them.

The first bytes identify the format: safetensors, or one of the two of ``torch.save``
(:mod:`sid2core.metrics.networks.torchfile`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from sid2core import atomic, stand_ins
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import torchfile
from sid2core.metrics.networks.torchfile import FLOATS, Tensors, UnreadableError
from sid2core.pipeline import artifact


@dataclass(frozen=True)
class Published:
    """A published weight file: its name, size, checksum and source."""

    name: str
    size: int
    """Bytes."""
    sha256: str
    publisher: str
    """Where it is found, for messages."""
    url: str

    def needed(self, path: Path) -> str:
        """Which file is needed at ``path``, and how to put it there."""
        return (
            f"expected {self.name} of {self.publisher}, {self.size} bytes, SHA-256 {self.sha256}: "
            f"put it there, or run `dvc import-url {self.url} {path}`"
        )


def obtain(path: Path, published: Published, *, verify: bool = True) -> Tensors:
    """The float tensors of a published file, or of what :func:`write` made from it.

    Args:
        path: the published file, or the safetensors written from it.
        published: what the file must be.
        verify: whether it must be that file; otherwise any readable weight file is accepted.

    Raises:
        MetricsError: as :func:`check` and :func:`read`; a converted file was made from another
            one, or its tensors are no longer those that were written.
    """
    _check_there(path, published)
    if not verify:
        return read(path)
    noted = _metadata(path)
    if "made_from" not in noted:
        check(path, published)
        return read(path)
    if noted["made_from"] != published.sha256:
        msg = (
            f"{path} was made from a file of SHA-256 {noted['made_from']}; {published.needed(path)}"
        )
        raise MetricsError(msg)
    tensors = read(path)
    found, written = digest(tensors), noted.get("digest")
    if found != written:
        msg = (
            f"{path} holds tensors of digest {found}, but was written with {written}: "
            f"it is damaged; {published.needed(path)}"
        )
        raise MetricsError(msg)
    return tensors


def check(path: Path, published: Published) -> None:
    """Check that a file is the published one.

    Raises:
        MetricsError: it is missing, or has another size or SHA-256.
    """
    _check_there(path, published)
    found = path.stat().st_size
    if found != published.size:
        msg = f"{path} has {found} bytes; {published.needed(path)}"
        raise MetricsError(msg)
    found_digest = artifact.sha256(path)
    if found_digest != published.sha256:
        msg = f"{path} has SHA-256 {found_digest}; {published.needed(path)}"
        raise MetricsError(msg)


def _check_there(path: Path, published: Published) -> None:
    if not path.is_file():
        msg = f"{path} not found; {published.needed(path)}"
        raise MetricsError(msg)
    stand_ins.check_file(path, MetricsError, published.needed(path))


def digest(tensors: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of names, types, shapes and values, in the names' order, in hexadecimal."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        total.update(f"{name} {tensor.dtype.name} {tensor.shape}\n".encode())
        total.update(tensor.tobytes())
    return total.hexdigest()


def write(path: Path, tensors: Tensors, made_from: str) -> None:
    """Write safetensors atomically, with the checksum of the file they were made from.

    Args:
        path: its folders are made if needed.
        tensors: what to write.
        made_from: the SHA-256 of the file that was read.
    """
    content = safetensors.numpy.save(
        {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()},
        metadata={"made_from": made_from, "digest": digest(tensors)},
    )
    atomic.write_bytes(path, content)


def origin(path: Path) -> str:
    """The SHA-256 of the published file behind ``path``: what :func:`write` noted, or its own."""
    return _metadata(path).get("made_from") or artifact.sha256(path)


def read(path: Path) -> Tensors:
    """The float tensors of a weight file, by name; nothing in the file is run.

    Tensors in nested dictionaries, and in the modules of a TorchScript archive, are named by their
    path: ``state_dict.fc.weight``. Integers, such as a batch norm's count of batches, are left out.

    Raises:
        MetricsError: the file is missing, truncated, no weight file, holds code, or no tensor.
    """
    try:
        with path.open("rb") as file:
            tensors = _reader(file)(file)
    except Exception as error:  # a hostile file may raise any exception in its reader
        reason = str(error) if isinstance(error, UnreadableError) else repr(error)
        msg = f"{path} cannot be read as a weight file: {reason}"
        raise MetricsError(msg) from error
    floats = {name: tensor for name, tensor in tensors.items() if tensor.dtype in FLOATS}
    if not floats:
        msg = f"{path} holds no float tensors; it is not a file of weights"
        raise MetricsError(msg)
    return floats


def _reader(file: BinaryIO) -> Callable[[BinaryIO], Tensors]:
    head = file.read(stand_ins.START)
    file.seek(0)
    if other := stand_ins.recognised(head):
        raise UnreadableError(f"it is {other}")
    if torchfile.recognises(head):
        return torchfile.read
    if head[8:9] == b"{":
        return lambda file: safetensors.numpy.load(file.read())
    msg = (
        f"it begins with {head[:16]!r}, neither a file of torch.save nor safetensors; "
        "it may be an incomplete download"
    )
    raise UnreadableError(msg)


def _metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty for other files."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        # A pickle's or an archive's first bytes are a huge number: nothing of that size is read.
        if size > path.stat().st_size:
            return {}
        try:
            header = json.loads(file.read(size))
        except ValueError:
            return {}
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    return metadata if isinstance(metadata, dict) else {}
