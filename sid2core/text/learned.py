"""The learned encoder: byte-level BPE made from the captions, and a Transformer to be trained.

Every text in every language has a tokenization: what no merge covers stays bytes. Unicode is
composed first (NFC), and white space at either end is removed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from flax import nnx
from jax.sharding import NamedSharding
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from sid2core import atomic
from sid2core.models.text.learned import LearnedTextEncoder, gflops
from sid2core.text import tokens
from sid2core.text.errors import TextError
from sid2core.text.protocol import EncoderCost
from sid2core.text.tokens import Tokens

FILE = "tokenizer.json"
_RESERVED = 2
"""Padding and end come first; the ids of the tokenizer's file follow. So no text can hold them."""


@dataclass(frozen=True)
class LearnedSpec:
    """The section ``text.encoder.learned`` and the number of tokens."""

    vocabulary: int
    channels: int
    depth: int
    heads: int
    max_tokens: int
    frozen: ClassVar[bool] = False

    def fit(self, captions: Iterable[str], folder: Path) -> LearnedEncoder:
        """Make a tokenizer from the captions; the same captions make the same bytes.

        Raises:
            TextError: a caption is not valid Unicode.
        """
        tokenizer = _untrained()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocabulary - _RESERVED,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(_checked(captions), trainer)
        text = tokenizer.to_str(pretty=True)
        atomic.write_text(folder / FILE, text)
        return LearnedEncoder(self, tokenizer, _digest(text))

    def load(self, folder: Path, provenance: Mapping[str, Any]) -> LearnedEncoder:
        """The encoder of a folder.

        Raises:
            TextError: the tokenizer is missing or was changed.
        """
        path = folder / FILE
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            msg = f"{path} cannot be read ({error}); restore it, or run the stage text again"
            raise TextError(msg) from error
        if _digest(text) != provenance["tokenizer"]:
            msg = (
                f"{path} has SHA-256 {_digest(text)}, expected {provenance['tokenizer']}; restore "
                "it, or run the stage text again"
            )
            raise TextError(msg)
        return LearnedEncoder(self, Tokenizer.from_str(text), _digest(text))

    def cost(self) -> EncoderCost:
        """Of the network with a full vocabulary; its weights are float32."""
        shapes = nnx.state(nnx.eval_shape(lambda: self.network(self.vocabulary, nnx.Rngs(0))))
        parameters = sum(math.prod(one.shape) for _, one in nnx.to_flat_state(shapes))
        return EncoderCost(
            parameters=parameters,
            weight_bytes=4 * parameters,
            gflops=gflops(self.max_tokens, self.channels, self.depth),
            bytes_a_token=4,
        )

    def network(self, vocabulary: int, rngs: nnx.Rngs) -> LearnedTextEncoder:
        """The network, for so many token ids."""
        return LearnedTextEncoder(
            vocabulary, self.channels, self.depth, self.heads, self.max_tokens, rngs
        )


@dataclass(frozen=True, eq=False)
class LearnedEncoder:
    """A tokenizer and the sizes of the network that the denoiser trains."""

    spec: LearnedSpec
    tokenizer: Tokenizer
    digest: str
    """SHA-256 of the tokenizer's file."""
    kind: ClassVar[str] = "learned"
    frozen: ClassVar[bool] = False

    @property
    def channels(self) -> int:
        """The width of its vectors."""
        return self.spec.channels

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that are kept, its end token included."""
        return self.spec.max_tokens

    @property
    def vocabulary(self) -> int:
        """The number of token ids; fewer than asked for where captions have fewer merges."""
        return self.tokenizer.get_vocab_size() + _RESERVED

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The tokenizer's checksum, how many ids it has, and the number of tokens."""
        return {
            "kind": self.kind,
            "max_tokens": self.max_tokens,
            "tokenizer": self.digest,
            "vocabulary": self.vocabulary,
        }

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """The ids of texts.

        Raises:
            TextError: a text is not valid Unicode.
        """
        tokens.check_unicode(texts)
        found = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        pieces = [[_RESERVED + number for number in one.ids] for one in found]
        return tokens.fixed(pieces, self.max_tokens)

    def network(
        self, rngs: nnx.Rngs | None = None, sharding: NamedSharding | None = None
    ) -> LearnedTextEncoder:
        """The network before training; ``sharding`` is the denoiser's own."""
        return self.spec.network(self.vocabulary, rngs or nnx.Rngs(0))


def _untrained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _checked(captions: Iterable[str]) -> Iterator[str]:
    for caption in captions:
        tokens.check_unicode([caption])
        yield caption


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
