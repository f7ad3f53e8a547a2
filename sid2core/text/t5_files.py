"""The folder of a T5 encoder that the user supplies: checked by headers, read weight by weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from sid2core import stand_ins
from sid2core.checksums import sha256
from sid2core.errors import few
from sid2core.models.text.t5 import T5Config
from sid2core.pipeline import verified
from sid2core.text import json_files
from sid2core.text.errors import TextError
from sid2core.text.t5_tokenizer import FILES as TOKENIZERS

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_KINDS = {"gated-gelu": True, "relu": False}
_TYPES = ("F32", "F16", "BF16")
"""Types of weights, as safetensors names them."""
_EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight")
"""Either name is that of the embedding."""
_FIELDS = {
    "vocabulary": "vocab_size",
    "channels": "d_model",
    "head_size": "d_kv",
    "hidden": "d_ff",
    "layers": "num_layers",
    "heads": "num_heads",
    "buckets": "relative_attention_num_buckets",
}
_PUBLISHED = {
    # channels, head_size, hidden, layers, heads
    "small": (512, 64, 1024, 8, 6),
    "base": (768, 64, 2048, 12, 12),
    "large": (1024, 64, 2816, 24, 16),
    "xl": (2048, 64, 5120, 24, 32),
    "xxl": (4096, 64, 10240, 24, 64),
}
"""Sizes of t5-v1_1-<name> and flan-t5-<name> (arXiv 2002.05202, 2210.11416)."""
EXPECTED = (
    "expected a T5, T5 v1.1 or Flan-T5 as published on Hugging Face, such as google/t5-v1_1-xxl or "
    f"google/flan-t5-xl: {CONFIG}, {TOKENIZERS[0]} or {TOKENIZERS[1]}, and {WEIGHTS} or {INDEX} "
    "with its shards"
)


@dataclass(frozen=True)
class T5Folder:
    """A folder whose files fit together.

    Attributes:
        path: the folder.
        config: the sizes of the encoder.
        tokenizer: the tokenizer's file name.
        places: the file and the name in it of every weight, by published name.
    """

    path: Path
    config: T5Config
    tokenizer: str
    places: Mapping[str, tuple[str, str]]

    @property
    def files(self) -> list[str]:
        """The names of the files that have weights of the encoder."""
        return sorted({file for file, _ in self.places.values()})

    def digests(self) -> dict[str, str]:
        """The SHA-256 of every file that decides the vectors of a text, by name."""
        names = [CONFIG, self.tokenizer, *self.files]
        return {name: sha256(self.path / name) for name in names}

    def check(self, expected: Mapping[str, str]) -> None:
        """Check that the files are those of :meth:`digests`; each is hashed once, not every time.

        Raises:
            TextError: one is another.
        """
        for name in [CONFIG, *self.files]:
            found = verified.checked(self.path / name, self.path, expected.get(name, "none"))
            if found != expected.get(name):
                msg = (
                    f"{self.path / name} has SHA-256 {found}, expected {expected.get(name)}; "
                    "restore the file, or run the stage text again"
                )
                raise TextError(msg)

    def reader(self) -> Callable[[str], NDArray[Any]]:
        """A function from the published name of a weight to its finite values."""
        opened = {name: safetensors.safe_open(self.path / name, "np") for name in self.files}

        def read(name: str) -> NDArray[Any]:
            file, inner = self.places[name]
            weight: NDArray[Any] = opened[file].get_tensor(inner)
            if not np.isfinite(weight.astype(np.float32, copy=False)).all():
                msg = f"{self.path / file}: {inner} has values that are not finite; {EXPECTED}"
                raise TextError(msg)
            return weight

        return read


def find(path: Path) -> T5Folder:
    """The folder of the encoder, its headers read and no weight.

    Raises:
        TextError: a file is missing or not one of an encoder of T5, or the shape of a weight is not
            the one that ``config.json`` implies; the message says what is expected and where it is
            published.
    """
    config = read_config(path)
    tokenizer = next((name for name in TOKENIZERS if (path / name).is_file()), None)
    if tokenizer is None:
        raise _missing(path, " or ".join(TOKENIZERS))
    where = _where(path)
    names = {name: _stored(name, where) for name in config.shapes()}
    missing = [name for name, stored in names.items() if stored not in where]
    if missing:
        msg = (
            f"{path}: no weights {few(missing, 3)} among {len(where)} of {few(_files(path), 3)}; "
            f"{EXPECTED}"
        )
        raise TextError(msg)
    _check_shapes(path, config, {name: (where[stored], stored) for name, stored in names.items()})
    return T5Folder(
        path, config, tokenizer, {name: (where[one], one) for name, one in names.items()}
    )


def sizes(path: Path) -> T5Config:
    """The sizes in ``config.json``; before there is a folder, those of the model of its name.

    Raises:
        TextError: as :func:`read_config`.
    """
    family, _, name = path.name.rpartition("-")
    if path.exists() or family not in ("t5-v1_1", "flan-t5") or name not in _PUBLISHED:
        return read_config(path)
    return T5Config(32_128, *_PUBLISHED[name], 32, 128, 1e-6, gated=True)


def read_config(path: Path) -> T5Config:
    """The sizes in ``config.json``.

    Raises:
        TextError: it is missing, or not that of a T5.
    """
    if not path.is_dir():
        msg = f"{path} is not a folder; {EXPECTED}"
        raise TextError(msg)
    value = _json(path, CONFIG)
    kind = value.get("feed_forward_proj", "relu")
    if value.get("model_type") != "t5" or kind not in _KINDS:
        msg = (
            f"{path / CONFIG}: found model_type {value.get('model_type')!r} and feed_forward_proj "
            f"{kind!r}, expected t5 with {' or '.join(_KINDS)}; {EXPECTED}"
        )
        raise TextError(msg)
    sizes: dict[str, Any] = {ours: value.get(theirs) for ours, theirs in _FIELDS.items()}
    for ours, theirs in _FIELDS.items():
        if not isinstance(sizes[ours], int) or sizes[ours] < 1:
            msg = f"{path / CONFIG}: {theirs} is {sizes[ours]!r}, expected a number; {EXPECTED}"
            raise TextError(msg)
    return T5Config(
        **sizes,
        max_distance=int(value.get("relative_attention_max_distance", 128)),
        epsilon=float(value.get("layer_norm_epsilon", 1e-6)),
        gated=_KINDS[kind],
    )


def _where(path: Path) -> dict[str, str]:
    """The file of every tensor, by its name there."""
    if (path / WEIGHTS).is_file() or not (path / INDEX).is_file():
        (single,) = _single(path)
        return dict.fromkeys(_header(path, single), single)
    index = _json(path, INDEX).get("weight_map")
    if not isinstance(index, dict) or not all(isinstance(one, str) for one in index.values()):
        msg = f"{path / INDEX} has no weight_map from weights to files; {EXPECTED}"
        raise TextError(msg)
    return index


def _single(path: Path) -> list[str]:
    """The one file of weights."""
    if (path / WEIGHTS).is_file():
        return [WEIGHTS]
    found = _files(path)
    if len(found) != 1:
        raise _missing(path, f"{WEIGHTS} or {INDEX}")
    return found


def _files(path: Path) -> list[str]:
    return sorted(one.name for one in path.glob("*.safetensors"))


def _stored(name: str, where: Mapping[str, str]) -> str:
    """The name that a weight has in the files."""
    if name in _EMBEDDINGS:
        return next((one for one in _EMBEDDINGS if one in where), name)
    return name


def _check_shapes(path: Path, config: T5Config, places: Mapping[str, tuple[str, str]]) -> None:
    expected = config.shapes()
    for file in sorted({file for file, _ in places.values()}):
        header = _header(path, file)
        for name, (owner, stored) in places.items():
            if owner != file:
                continue
            shape, kind = header.get(stored, ("missing", ""))
            if shape != expected[name]:
                msg = (
                    f"{path / file}: {stored} is {shape}, expected {expected[name]} by {CONFIG}; "
                    "use the files of one published model"
                )
                raise TextError(msg)
            if kind not in _TYPES:
                msg = (
                    f"{path / file}: {stored} is of type {kind}, expected {', '.join(_TYPES)}; "
                    "quantised weights are not read: use the published files"
                )
                raise TextError(msg)


def _header(path: Path, file: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """The shape and the type of every tensor of a file."""
    if Path(file).name != file or not (path / file).is_file():
        raise _missing(path, file)
    stand_ins.check_file(path / file, TextError)
    try:
        with safetensors.safe_open(path / file, "np") as opened:
            names = opened.keys()
            slices = {name: opened.get_slice(name) for name in names}
            return {name: (tuple(one.get_shape()), one.get_dtype()) for name, one in slices.items()}
    except (OSError, safetensors.SafetensorError) as error:
        msg = f"{path / file} cannot be read as safetensors ({error}); download it again"
        raise TextError(msg) from error


def _json(path: Path, name: str) -> dict[str, Any]:
    try:
        return json_files.read(path / name, "download it again")
    except FileNotFoundError:
        raise _missing(path, name) from None


def _missing(path: Path, name: str) -> TextError:
    """That a file is missing, what is there, and how weights of PyTorch are converted."""
    found = few(sorted(one.name for one in path.iterdir())) or "nothing"
    cure = ""
    if any(path.glob("pytorch_model*.bin")):
        cure = (
            "; to convert pytorch_model.bin, run T5EncoderModel.from_pretrained(folder)"
            ".save_pretrained(folder) of transformers"
        )
    return TextError(f"{path}: found no {name} among {found}; {EXPECTED}{cure}")
