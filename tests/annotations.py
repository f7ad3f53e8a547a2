"""How tests check annotations: jaxtyping for shapes, beartype for the rest."""

import io
from typing import IO, BinaryIO

from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import install_import_hook

_CONF = BeartypeConf(
    # As in PEP 484, an int is a float.
    is_pep484_tower=True,
    # Binary files of fsspec and zipfile lack ``mode`` and ``name``, which nothing here reads.
    hint_overrides=FrozenDict({BinaryIO: io.IOBase, IO[bytes]: io.IOBase}),
)


def checked(function):
    """The function or class, whose calls are checked."""
    return beartype(conf=_CONF)(function)


def install() -> None:
    """Check every call of the packages' functions; to be called before they are imported."""
    install_import_hook(["sid2core", "stages"], "tests.annotations.checked")
