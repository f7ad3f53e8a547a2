"""Texts as conditions: of prompts, of the empty caption, and what a model's folder needs for it."""

from __future__ import annotations

import functools
import itertools
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import NamedSharding

from sid2core.conditioning import Condition, ConditionSpec, Text, TextKind
from sid2core.errors import few
from sid2core.pipeline.artifact import Artifact
from sid2core.text import folder
from sid2core.text.errors import TextError
from sid2core.text.frozen import Embed
from sid2core.text.protocol import TextEncoder

_log = logging.getLogger(__name__)
ENCODER = "encoder"
"""In the artifact of the stage ``text``: the folder of the encoder."""
FOLDER = "text"
"""Beside a model's weights: the folder of its text encoder."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """Turns prompts into the conditions of a model.

    Attributes:
        kind: the model's text.
        encoder: makes the tokens.
        embed: makes the vectors of a frozen encoder; None for a learned one.
    """

    kind: TextKind
    encoder: TextEncoder
    embed: Embed | None = None

    @classmethod
    def load(cls, model: Path, kind: TextKind, sharding: NamedSharding | None = None) -> Prompts:
        """The prompts of the model whose folder is ``model``.

        Raises:
            TextError: the folder has no text encoder, or it is damaged.
        """
        encoder = folder.load(model / FOLDER)
        found = encoder.kind, encoder.max_tokens, encoder.channels
        expected = kind.encoder, kind.tokens, kind.channels
        if found != expected:
            msg = f"{model / FOLDER} has an encoder of kind, tokens and channels {found}; expected "
            raise TextError(f"{msg}{expected}, as beside it in config.json; restore the folder")
        return cls(kind, encoder, Embed(encoder, sharding) if encoder.frozen else None)

    def text(self, prompts: Sequence[str]) -> Text:
        """Tokens and mask of some texts, on the host; logs which are cut."""
        cut = itertools.compress(prompts, self.encoder.tokenize(prompts).truncated)
        distinct = list(dict.fromkeys(cut))
        if distinct:
            most = self.encoder.max_tokens - 1
            which = few(distinct, 2)
            _log.warning(
                "%d %s cut after %d tokens (text.max_tokens): %s",
                len(distinct),
                "prompt is" if len(distinct) == 1 else "prompts are",
                most,
                which,
            )
        return text_of(self.encoder, self.embed, prompts)

    def conditions_of(self, prompts: Sequence[str], spec: ConditionSpec | None = None) -> Condition:
        """The condition of some prompts, on the host; other kinds of ``spec`` are null."""
        null = Condition() if spec is None else spec.null(len(prompts))
        return null._replace(text=self.text(prompts))

    def null(self, prompt: str) -> TextKind:
        """The model's text with ``prompt`` as its null: guidance pushes away from it."""
        tokens, mask = self.text([prompt])
        return kind_of(self.encoder, np.asarray(tokens[0][mask[0]]))


def of_artifact(text: Artifact, kind: TextKind, sharding: NamedSharding | None = None) -> Prompts:
    """What turns prompts into conditions during training, from the artifact of the stage ``text``.

    Raises:
        TextError: the encoder is damaged.
    """
    encoder = folder.load(text.checked(ENCODER))
    return Prompts(kind, encoder, Embed(encoder, sharding) if encoder.frozen else None)


def text_of(encoder: TextEncoder, embed: Embed | None, texts: Sequence[str]) -> Text:
    """Tokens and mask of texts, on the host: ids, or with ``embed`` vectors."""
    found = encoder.tokenize(texts)
    if embed is None:
        return Text(found.ids, found.mask)
    return Text(embed.host(found.ids, found.mask), found.mask)


def kind_of(encoder: TextEncoder, null: np.ndarray) -> TextKind:
    """The kind of condition of an encoder whose empty caption has the tokens ``null``."""
    sizes: dict[str, Any] = {}
    if not encoder.frozen:
        spec = getattr(encoder, "spec", None)
        sizes = {name: getattr(spec, name, None) for name in ("depth", "heads")}
        if None in sizes.values():
            msg = (
                f"text.encoder: {encoder.kind} is neither frozen nor the learned encoder; expected "
                "one whose vectors can be stored"
            )
            raise TextError(msg)
        sizes["vocabulary"] = encoder.vocabulary
    return TextKind.of(
        null=null,
        encoder=encoder.kind,
        tokens=encoder.max_tokens,
        channels=encoder.channels,
        **sizes,
    )


def copy(source: Path, model: Path) -> None:
    """Put the folder of a text encoder beside a model's weights."""
    shutil.copytree(source, model / FOLDER)


def embed_of(text: Artifact, sharding: NamedSharding | None = None) -> Embed | None:
    """What makes vectors of stored ids; None where vectors are stored, or the network makes them.

    Args:
        text: the artifact of the stage ``text``.
        sharding: how devices share a batch.
    """
    about = text.metadata["text"]
    if about is None or about["stored"] != "int32" or TextKind.from_json(about["kind"]).learned:
        return None
    return _shared(text.checked(ENCODER), text.digest, sharding)


@functools.lru_cache(maxsize=2)
def _shared(place: Path, digest: str, sharding: NamedSharding | None) -> Embed:
    """One for all who ask, since its weights may fill half of a device's memory."""
    del digest  # another artifact in the same folder has another encoder
    return Embed(folder.load(place), sharding)
