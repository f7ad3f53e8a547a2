"""The tokenizer of T5, from ``tokenizer.json`` or made from ``spiece.model``.

Both give the same ids: a ``spiece.model`` is converted as ``transformers`` does, so that names of
special tokens in a text, such as ``<extra_id_0>``, are these tokens in both.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from sid2core import stand_ins
from sid2core.text.errors import TextError
from sid2core.text.tokens import END, PAD

FILES = ("tokenizer.json", "spiece.model")
"""In the order in which they are preferred."""
_SPECIAL = {"<pad>": PAD, "</s>": END, "<unk>": 2}
_SENTINELS = [f"<extra_id_{number}>" for number in range(99, -1, -1)]
_UNIGRAM = 1


def read(path: Path, vocabulary: int) -> Tokenizer:
    """The tokenizer of a file, without truncation and padding.

    Args:
        path: ``tokenizer.json`` or ``spiece.model``.
        vocabulary: the number of rows of the embedding.

    Raises:
        TextError: the file cannot be read, has more tokens than rows, or ids of padding and end
            that are not T5's.
    """
    stand_ins.check_file(path, TextError)
    try:
        tokenizer = Tokenizer.from_file(str(path)) if path.suffix == ".json" else _converted(path)
    except ModuleNotFoundError as error:
        msg = (
            f"{path} needs the package {error.name}: install this project with the extra [t5], or "
            "put tokenizer.json into the folder"
        )
        raise TextError(msg) from error
    except Exception as error:  # both readers raise bare exceptions
        msg = f"{path} cannot be read as a tokenizer of T5 ({error}); download it again"
        raise TextError(msg) from error
    size, special = (
        tokenizer.get_vocab_size(),
        {one: tokenizer.token_to_id(one) for one in _SPECIAL},
    )
    if size > vocabulary or special != _SPECIAL:
        msg = (
            f"{path} has {size} tokens with {special}, expected at most {vocabulary} with "
            f"{_SPECIAL}; use the files of one published model"
        )
        raise TextError(msg)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def pieces(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The ids of texts without the end token."""
    found = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [one.ids for one in found]


def _converted(path: Path) -> Tokenizer:
    """The unigram model of ``spiece.model``, and 100 sentinels behind its pieces."""
    schema: Any = importlib.import_module("sentencepiece.sentencepiece_model_pb2")
    model = schema.ModelProto()
    model.ParseFromString(path.read_bytes())
    if model.trainer_spec.model_type != _UNIGRAM:
        msg = "it is no unigram model"
        raise ValueError(msg)
    scores = [(piece.piece, piece.score) for piece in model.pieces]
    scores += [(name, 0.0) for name in _SENTINELS]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=_SPECIAL["<unk>"], byte_fallback=False))
    tokenizer.normalizer = normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True),
        ]
    )
    tokenizer.add_special_tokens([*_SPECIAL, *_SENTINELS])
    return tokenizer
