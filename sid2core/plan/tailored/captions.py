"""The values that captions decide: tokenizer, lengths, guidance, prompts that are shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sid2core import config
from sid2core.conditioning import ConditionSpec
from sid2core.config import yaml_edit
from sid2core.data.prepare.survey import Survey
from sid2core.plan import captions

_VOCABULARIES = ((64, 512), (512, 2048), (math.inf, 8192))
"""Up to so many different words in the captions that were read: so many tokens."""
_BYTES_A_TOKEN = 3
"""Byte-level BPE with a small vocabulary: 41 bytes of the preset shapes-text are 14 tokens."""
_COVERED = 0.95
"""The share of captions that decides the number of tokens: one very long caption should not."""
_HEADROOM, _MULTIPLE, _TOKENS = 1.25, 8, (16, 256)
_PROMPTS, _LONGEST = 4, 120
_SYNTAX = ("{", "|", "}", "--", "\n")
"""What means something in ``eval.prompts``."""


def overlay(found: Survey, allowed: float) -> dict[str, Any]:
    """The values for data with captions; none without.

    Args:
        found: the data.
        allowed: the share of images without a caption that ``prepare`` allows as it is.
    """
    if not found.captioned:
        return {}
    return {
        "data": {
            "captions": "required",
            "unlabelled": True,
            "max_missing_captions": max(allowed, _missing_in_a_split(found)),
        },
        "text": {
            "encoder": {"name": "learned", "learned": {"vocabulary": _vocabulary(found)}},
            "max_tokens": _max_tokens(found),
        },
        "train": {"condition_dropout": 0.1},
        "guidance": {"weight": 2.0},
        "eval": {"prompts": prompts(found.captions)},
    }


def reasons(found: Survey) -> dict[str, str]:
    """Why: for each key of the overlay that is not plain."""
    if not found.captioned:
        return {}
    with_captions = found.images_with_captions
    known = "some" if with_captions is None else f"{with_captions:,} of {found.train:,}"
    read = f"{len(found.captions)} captions that were read"
    return {
        "data.captions": f"{known} images have captions",
        "data.unlabelled": "so a prompt alone is all that the model needs; false keeps classes too",
        "data.max_missing_captions": (
            f"{_missing(found):.1%} of the images have no caption; of a split it may be more"
        ),
        "text.encoder": f"trained with the model; {len(_words(found))} different words in {read}",
        "text.max_tokens": (
            f"{_COVERED:.0%} of {read} have at most about {_usual_most(found)} tokens; "
            f"about {_truncated(found)} of all are longer than this limit and truncated"
        ),
        "train.condition_dropout": "guidance needs the empty caption as well",
        "guidance": "strong enough that samples have what the caption asks for",
        "eval.prompts": "captions of the data, for the grid on the page",
    }


def condition(found: Survey, base: Mapping[str, Any], values: Mapping[str, Any]) -> ConditionSpec:
    """What a model of the data is conditioned on, captions included.

    Args:
        found: the data.
        base: the parameters that ``values`` are an overlay of.
        values: those of :func:`overlay`.
    """
    if not found.captioned:
        return found.condition
    text = config.parse(yaml_edit.merged(base, {"text": values["text"]})).text
    return ConditionSpec((*found.condition.kinds, captions.expected_kind(text)))


def prompts(texts: Sequence[str]) -> list[str] | None:
    """A few different captions that are prompts as they are, spread over all; None if none is."""
    plain = [" ".join(text.split()) for text in texts if not any(one in text for one in _SYNTAX)]
    usable = [*dict.fromkeys(text for text in plain if 0 < len(text) <= _LONGEST)]
    return usable[:: -(-len(usable) // _PROMPTS)] if usable else None


def _missing(found: Survey) -> float:
    """The share of images without a caption, as far as it is known."""
    some = found.images_with_captions
    return 0.0 if some is None else 1 - some / found.train


def _missing_in_a_split(found: Survey) -> float:
    """That share in a split of a tenth of the images, four standard deviations above."""
    share = _missing(found)
    most = share + 4 * math.sqrt(share * (1 - share) / max(1, 0.1 * found.train))
    return min(1.0, math.ceil(100 * most) / 100)


def _words(found: Survey) -> set[str]:
    return {word for text in found.captions for word in text.lower().split()}


def _vocabulary(found: Survey) -> int:
    words = len(_words(found))
    return next(tokens for most, tokens in _VOCABULARIES if words <= most)


def _tokens(text: str) -> int:
    """About how many tokens a caption has, with the end token."""
    return 1 + -(-len(text.encode(errors="replace")) // _BYTES_A_TOKEN)


def _usual_most(found: Survey) -> int:
    """The quantile ``_COVERED`` of the captions' numbers of tokens."""
    sizes = sorted(map(_tokens, found.captions))
    return sizes[math.ceil(_COVERED * len(sizes)) - 1] if sizes else 1


def _truncated(found: Survey) -> int:
    """Captions with more tokens than are kept."""
    return sum(_tokens(text) > _max_tokens(found) for text in found.captions)


def _max_tokens(found: Survey) -> int:
    least, most = _TOKENS
    needed = _MULTIPLE * math.ceil(_HEADROOM * _usual_most(found) / _MULTIPLE)
    return min(most, max(least, needed))
