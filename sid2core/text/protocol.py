"""The protocols of text encoders.

A :class:`TextEncoderSpec` is what ``params.yaml`` describes. Fitted to captions, or loaded from the
folder that :meth:`TextEncoderSpec.fit` wrote, it is a :class:`TextEncoder`. Both are frozen
dataclasses; :mod:`sid2core.text.folder` is how the rest of the program calls them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flax import nnx
from jax.sharding import NamedSharding
from typing_extensions import Protocol, runtime_checkable

from sid2core.text.tokens import Tokens


@dataclass(frozen=True)
class EncoderCost:
    """What an encoder costs, known before it is fitted; FLOPs are multiply-adds."""

    parameters: int
    weight_bytes: int
    """Of all parameters, in the type that they are kept in."""
    gflops: float
    """A forward pass of one caption of ``max_tokens`` tokens."""
    bytes_a_token: int
    """What is stored for a token: its id, or the vector of a frozen encoder."""


@runtime_checkable
class TextEncoder(Protocol):
    """Texts to tokens, and the network from tokens to vectors."""

    @property
    def kind(self) -> str:
        """Its name in ``text.encoder``."""
        ...

    @property
    def frozen(self) -> bool:
        """Whether its vectors never change, so that they can be computed once and stored.

        Otherwise the denoiser owns the network and trains it.
        """
        ...

    @property
    def channels(self) -> int:
        """The width of its vectors."""
        ...

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that are kept, its end token included."""
        ...

    @property
    def vocabulary(self) -> int:
        """Token ids are below it."""
        ...

    @property
    def provenance(self) -> Mapping[str, Any]:
        """JSON values that change whenever ids or vectors of a text may."""
        ...

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """The ids of texts in any language and of any length.

        Raises:
            TextError: a text is not valid Unicode.
        """
        ...

    def network(
        self, rngs: nnx.Rngs | None = None, sharding: NamedSharding | None = None
    ) -> nnx.Module:
        """A module from ids [b, n] and mask [b, n] to vectors [b, n, channels].

        A vector is zero where the mask is false.

        Args:
            rngs: of the first weights of an encoder that is trained.
            sharding: where the weights of a frozen one are put; None is one device.

        Raises:
            TextError: the weights of a frozen encoder are missing or were changed.
        """
        ...


@runtime_checkable
class TextEncoderSpec(Protocol):
    """A text encoder as the parameters describe it; targets of ``config.ENCODERS`` return one."""

    @property
    def frozen(self) -> bool:
        """As :attr:`TextEncoder.frozen`."""
        ...

    def fit(self, captions: Iterable[str], folder: Path) -> TextEncoder:
        """The encoder for these captions; writes what :meth:`load` needs into an empty folder.

        Args:
            captions: of the train split, read once.
            folder: exists; ``encoder.json`` in it is not the encoder's own.

        Raises:
            TextError: files that the encoder needs are missing or wrong.
        """
        ...

    def load(self, folder: Path, provenance: Mapping[str, Any]) -> TextEncoder:
        """The encoder that :meth:`fit` wrote, with the provenance that it had.

        Raises:
            TextError: a file is missing or damaged.
        """
        ...

    def cost(self) -> EncoderCost:
        """What the encoder costs.

        Raises:
            TextError: files that determine it are missing.
        """
        ...
