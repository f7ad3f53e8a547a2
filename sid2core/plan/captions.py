"""What a text encoder costs, before there is any caption."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from sid2core import config
from sid2core.conditioning import TextKind
from sid2core.text import folder
from sid2core.text.errors import TextError
from sid2core.text.protocol import EncoderCost

_END = 1
"""The id of the end token, which the empty caption consists of."""


@dataclass(frozen=True)
class FrozenText:
    """A frozen encoder: what the stage ``text`` computes and stores for a caption.

    Attributes:
        encoder: its name.
        cost: of the encoder; its FLOPs are those of a caption of the greatest length.
        tokens: the greatest length.
        cached: whether vectors are stored; otherwise each training step computes them.
    """

    encoder: str
    cost: EncoderCost
    tokens: int
    cached: bool

    @property
    def bytes_a_caption(self) -> int:
        """What is stored for a caption of the greatest length."""
        return self.tokens * (self.cost.bytes_a_token if self.cached else 4)


def expected_kind(settings: config.Text) -> TextKind:
    """The condition that captions will be, with a tokenizer of the greatest size.

    Raises:
        TextError: files that determine it are missing, or the encoder is of an unknown kind.
    """
    spec, tokens = folder.spec(settings), settings.max_tokens
    if spec.frozen:
        channels = spec.cost().bytes_a_token // 2
        null = np.zeros((1, channels), ml_dtypes.bfloat16)
        return TextKind.of(
            null=null, encoder=settings.encoder.name, tokens=tokens, channels=channels
        )
    names = ("vocabulary", "channels", "depth", "heads")
    sizes = {name: getattr(spec, name, None) for name in names}
    if None in sizes.values():
        msg = f"text.encoder: {settings.encoder.name} has no known size; expected learned or t5"
        raise TextError(msg)
    null = np.array([_END], np.int32)
    return TextKind.of(null=null, encoder=settings.encoder.name, tokens=tokens, **sizes)


def frozen(settings: config.Text, kind: TextKind | None) -> FrozenText | None:
    """The cost of a frozen encoder; None for a learned one, and without text."""
    if kind is None or kind.learned:
        return None
    cost = folder.spec(settings).cost()
    return FrozenText(settings.encoder.name, cost, settings.max_tokens, settings.cache)
