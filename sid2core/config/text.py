"""The section ``text``: how captions become the tokens that a network looks at.

A text encoder is a row of :data:`ENCODERS`: a name, its parameters, and what makes it, which
follows :class:`sid2core.text.protocol.TextEncoderSpec` and is imported on first use.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from sid2core.config.registry import Choice, FromFields, Registry
from sid2core.config.section import LARGEST, FilePath, Positive, Section

SMALLEST_VOCABULARY = 258
"""The 256 bytes, padding and the end of a text: any text can be written with them."""


class Learned(Section):
    """A tokenizer made from the captions, and a Transformer that is trained with the denoiser."""

    vocabulary: Annotated[int, Field(ge=SMALLEST_VOCABULARY, le=LARGEST)]
    channels: Positive
    depth: Positive
    heads: Positive

    @model_validator(mode="after")
    def _heads(self) -> Learned:
        if self.channels % self.heads:
            msg = f"heads {self.heads} must divide {self.channels} channels"
            raise ValueError(msg)
        return self


class T5(Section):
    """The encoder of a T5, T5 v1.1 or Flan-T5 that the user has in a folder, frozen."""

    path: FilePath
    dtype: Literal["float32", "bfloat16"]


ENCODERS = Registry("text.encoder")
ENCODERS.register("learned", Learned, FromFields("sid2core.text.learned:LearnedSpec"))
ENCODERS.register("t5", T5, FromFields("sid2core.text.t5:T5Spec"))


class Encoder(Choice):
    """The text encoder; targets take ``max_tokens``."""

    registry: ClassVar[Registry] = ENCODERS


class Text(Section):
    """Which encoder, how many tokens of a caption are kept, and whether its vectors are stored."""

    encoder: Encoder
    max_tokens: Annotated[int, Field(ge=2, le=4096)]
    cache: bool
