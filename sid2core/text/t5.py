"""The frozen encoder of a T5, T5 v1.1 or Flan-T5 that the user supplies.

The folder of a fitted encoder has its tokenizer and ``config.json``. The weights stay
where the user has them; their checksums are part of the provenance.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding
from tokenizers import Tokenizer

from sid2core import atomic
from sid2core.checksums import sha256
from sid2core.models.text import t5
from sid2core.text import t5_files, t5_tokenizer, tokens
from sid2core.text.errors import TextError
from sid2core.text.protocol import EncoderCost
from sid2core.text.tokens import Tokens

FILE = "tokenizer.json"


@dataclass(frozen=True)
class T5Spec:
    """The section ``text.encoder.t5`` and the number of tokens."""

    path: str
    dtype: Literal["float32", "bfloat16"]
    max_tokens: int
    frozen: ClassVar[bool] = True

    def fit(self, captions: Iterable[str], folder: Path) -> T5TextEncoder:
        """Check the user's folder and note its checksums; captions change nothing.

        Raises:
            TextError: a file is missing or not the expected one.
        """
        found = t5_files.find(Path(self.path))
        tokenizer = t5_tokenizer.read(found.path / found.tokenizer, found.config.vocabulary)
        atomic.write_text(folder / FILE, tokenizer.to_str())
        shutil.copyfile(found.path / t5_files.CONFIG, folder / t5_files.CONFIG)
        digests = {name: sha256(folder / name) for name in (FILE, t5_files.CONFIG)}
        return T5TextEncoder(self, found.config, tokenizer, digests, found.digests())

    def load(self, folder: Path, provenance: Mapping[str, Any]) -> T5TextEncoder:
        """The encoder of a folder; the weights are read by :meth:`T5TextEncoder.network`.

        Raises:
            TextError: the tokenizer or ``config.json`` is missing or was changed.
        """
        digests = dict(provenance["own"])
        for name in (FILE, t5_files.CONFIG):
            path = folder / name
            if not path.is_file() or sha256(path) != digests[name]:
                msg = (
                    f"{path} is missing or was changed, expected SHA-256 {digests[name]}; restore "
                    "it, or run the stage text again"
                )
                raise TextError(msg)
        config = t5_files.read_config(folder)
        tokenizer = t5_tokenizer.read(folder / FILE, config.vocabulary)
        return T5TextEncoder(self, config, tokenizer, digests, dict(provenance["files"]))

    def cost(self) -> EncoderCost:
        """By ``config.json``, or before there is a folder by the published model of its name.

        Raises:
            TextError: there is no such file, and no such model.
        """
        config = t5_files.sizes(Path(self.path))
        parameters = config.parameters
        return EncoderCost(
            parameters=parameters,
            weight_bytes=parameters * jnp.dtype(self.dtype).itemsize,
            gflops=t5.gflops(config, self.max_tokens),
            bytes_a_token=2 * config.channels,
        )


@dataclass(frozen=True, eq=False)
class T5TextEncoder:
    """A tokenizer, and where the weights of the network are."""

    spec: T5Spec
    config: t5.T5Config
    tokenizer: Tokenizer
    own: Mapping[str, str]
    """The SHA-256 of the files of the encoder's folder, by name."""
    files: Mapping[str, str]
    """The same of the user's files."""
    kind: ClassVar[str] = "t5"
    frozen: ClassVar[bool] = True

    @property
    def channels(self) -> int:
        """The width of its vectors."""
        return self.config.channels

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that are kept, its end token included."""
        return self.spec.max_tokens

    @property
    def vocabulary(self) -> int:
        """The rows of the embedding."""
        return self.config.vocabulary

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The files' checksums, the type of the weights, and the number of tokens."""
        return {
            "kind": self.kind,
            "max_tokens": self.max_tokens,
            "dtype": self.spec.dtype,
            "own": dict(self.own),
            "files": dict(self.files),
        }

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """The ids of texts, as the published tokenizer has them.

        Raises:
            TextError: a text is not valid Unicode.
        """
        tokens.check_unicode(texts)
        return tokens.fixed(t5_tokenizer.pieces(self.tokenizer, texts), self.max_tokens)

    def network(
        self, rngs: nnx.Rngs | None = None, sharding: NamedSharding | None = None
    ) -> t5.T5Encoder:
        """The network with the user's weights, which ``sharding`` places; ``rngs`` is not used.

        Raises:
            TextError: the weights are missing, or not those that :meth:`T5Spec.fit` found.
        """
        found = t5_files.find(Path(self.spec.path))
        found.check(self.files)
        read = found.reader()
        return t5.load(
            self.config, self.spec.dtype, lambda name: jax.device_put(read(name), sharding)
        )
