r"""Prompts for the grid of a text-to-image model: ``eval.prompts``.

A prompt may have alternatives in braces; several groups make their Cartesian product, the last
group varying fastest::

    {A strawberry elephant|A corgi wearing a hat} in a {lush forest|busy street}

Options follow the text: ``--n`` a negative prompt, ``--d`` the first column's seed, ``--s`` steps,
``--l`` the weight of guidance. A backslash makes one of ``{ } | \ - #`` a plain character.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sid2core.errors import Sid2Error, printable

FILE = "prompts.npz"
"""The grid's images in the artifact of ``evaluate``, [rows, columns, h, w, c] by sampler."""
MOST = 2048
"""Rows of a grid, at most; GenEval has 553 prompts, DPG-Bench 1,065."""
_SEEDS = 2**31
_PLAIN = "{}|\\-#"
_OPTION = re.compile(r"(?:^|\s)--(\S*)")
_HIDDEN = 0xE000
"""Escaped characters become private ones while a line is split, from this code point on."""
_HIDE = {char: chr(_HIDDEN + index) for index, char in enumerate(_PLAIN)}
_SHOW = {ord(hidden): char for char, hidden in _HIDE.items()}


class PromptError(Sid2Error):
    """``eval.prompts`` cannot be read; the message names the line."""


@dataclass(frozen=True)
class Prompt:
    """One row of the grid; None leaves a value as the sampler has it.

    Attributes:
        text: the prompt.
        negative: the prompt that guidance pushes away from, instead of the empty one.
        seed: of the first column; that of each further column is one larger.
        steps: of the base model's sampler.
        guidance: the weight of the base model's guidance.
        name: of the prompt in its benchmark.
        about: what its benchmark says of it, a JSON object.
    """

    text: str
    negative: str | None = None
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    name: str | None = None
    about: Mapping[str, Any] | None = None


def read(setting: str | Sequence[str] | None) -> tuple[Prompt, ...]:
    """The rows that ``eval.prompts`` describes; none for None.

    Args:
        setting: a list of prompts; one prompt with alternatives in braces; or a path. It is that
            of a text file with a prompt a line, where empty lines and lines that begin with # are
            skipped; of a ``.jsonl`` file with a key ``prompt`` in each line, as GenEval has it; or
            of a folder of ``.txt`` files with a prompt each, as DPG-Bench has it. In the last two,
            prompts are plain text.

    Raises:
        PromptError: the file cannot be read, a line is malformed, or there are more than
            :data:`MOST` rows, or none.
    """
    if setting is None:
        return ()
    found = list[Prompt]()
    for place, some in _rows(setting):
        found.extend(some)
        if len(found) > MOST:
            msg = f"{place}: found more than {MOST} rows; shorten eval.prompts"
            raise PromptError(msg)
    if not found:
        msg = f"eval.prompts: found no prompt in {setting}; write one per line, or set it to null"
        raise PromptError(msg)
    return tuple(found)


def _rows(setting: str | Sequence[str]) -> Iterator[tuple[str, list[Prompt]]]:
    """The place of each line for messages, and its prompts."""
    if not isinstance(setting, str):
        for index, line in enumerate(setting):
            place = f"eval.prompts.{index}"
            yield place, parse(line, place)
        return
    if "{" in setting:
        yield "eval.prompts", parse(setting)
        return
    yield from _of_path(Path(os.path.expanduser(setting)), "eval.prompts")


def of_file(path: Path, key: str) -> list[Prompt]:
    """The prompts of a file or folder, as :func:`read` reads them.

    Raises:
        PromptError: as there; the message names ``key``.
    """
    found = [one for _, some in _of_path(path, key) for one in some]
    if not found:
        msg = f"{key}: found no prompt in {printable(str(path))}; write one per line"
        raise PromptError(msg)
    return found


def _of_path(path: Path, key: str) -> Iterator[tuple[str, list[Prompt]]]:
    if path.is_dir():
        for one in sorted(path.glob("*.txt")):
            yield str(one), [Prompt(content(one, key).strip(), name=one.stem)]
        return
    for number, line in enumerate(content(path, key).split("\n"), 1):
        place = f"{path}, line {number}"
        if path.suffix == ".jsonl" and line.strip():
            yield place, [_of_json(line, place)]
        elif line.strip() and not line.lstrip().startswith("#"):
            yield place, parse(line.strip(), place)


def content(path: Path, key: str = "eval.prompts") -> str:
    """The text of a file with one text per line.

    Raises:
        PromptError: it cannot be read; the message names the parameter ``key``.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        msg = (
            f"{key}: {printable(str(path))} cannot be read ({reason}); give the path of a text file"
        )
        if key == "eval.prompts":
            msg += f", or a list for a single prompt: [{printable(str(path))}]"
        raise PromptError(msg) from None


def _of_json(line: str, place: str) -> Prompt:
    try:
        about = json.loads(line)
    except ValueError as error:
        msg = f"{place}: it is not JSON ({error}); write an object with a key prompt"
        raise PromptError(msg) from None
    text = about.get("prompt") if isinstance(about, dict) else None
    if not isinstance(text, str):
        msg = f"{place}: found no text under the key prompt; write an object with this key"
        raise PromptError(msg)
    return Prompt(text, about=about)


def captions(path: str, count: int) -> list[str]:
    """The first ``count`` captions of a text file with one per line; empty lines are skipped.

    Raises:
        PromptError: the file cannot be read, or has fewer.
    """
    place = Path(os.path.expanduser(path))
    lines = (line.strip() for line in content(place, "eval.captions").split("\n"))
    found = list(itertools.islice(filter(None, lines), count))
    if len(found) < count:
        msg = f"eval.captions: {place} has {len(found)} captions, and eval.samples is {count}; "
        raise PromptError(f"{msg}add captions, or lower eval.samples")
    return found


def parse(line: str, place: str = "eval.prompts") -> list[Prompt]:
    """The prompts of one line: the product of its alternatives, with its options.

    Raises:
        PromptError: braces or options are malformed; the message begins with ``place``.
    """
    hidden = _escaped(line, place)
    options = list(_OPTION.finditer(hidden))
    end = options[0].start() if options else len(hidden)
    values = dict[str, Any]()
    for one, after in itertools.zip_longest(options, options[1:]):
        name, value = one[1], hidden[one.end() : after.start() if after else None].strip()
        if name not in _OPTIONS:
            known = ", ".join(f"--{one}" for one in _OPTIONS)
            msg = f"{place}: unknown option --{name}; expected {known}, or a backslash before it"
            raise PromptError(msg)
        field, make = _OPTIONS[name]
        if field in values:
            msg = f"{place}: --{name} is given twice; give it once"
            raise PromptError(msg)
        try:
            values[field] = make(value)
        except ValueError as error:
            msg = f"{place}: --{name} is {_shown(value)!r}; expected {error}"
            raise PromptError(msg) from None
    parts = _groups(hidden[:end].strip(), place)
    count = math.prod(map(len, parts))
    if count > MOST:
        msg = (
            f"{place}: found {count} combinations; expected at most {MOST}: use fewer alternatives"
        )
        raise PromptError(msg)
    texts = map("".join, itertools.product(*parts))
    return [Prompt(_shown(text), **values) for text in texts]


def _groups(text: str, place: str) -> list[list[str]]:
    """The alternatives of each part of a text; plain text is one alternative."""
    parts, inside = list[list[str]](), False
    for piece in re.split(r"([{}])", text):
        if piece not in ("{", "}"):
            parts.append(piece.split("|") if inside else [piece])
        elif (piece == "{") == inside:
            expected = "a closing brace" if inside else "an opening brace before it"
            msg = f"{place}: found {piece} and expected {expected}; for a plain brace write "
            raise PromptError(rf"{msg}\{piece}")
        else:
            inside = not inside
    if inside:
        msg = rf"{place}: a brace is not closed; add }}, or write \{{ for a plain brace"
        raise PromptError(msg)
    return parts


def _escaped(line: str, place: str) -> str:
    """The line with each escaped character as a private one, and without private ones before."""
    pieces = re.split(r"\\(.?)", line, flags=re.DOTALL)
    for found in pieces[1::2]:
        if found not in _HIDE:
            what = f"a backslash before {found!r}" if found else "a backslash at the end"
            msg = f"{place}: found {what}; it may stand before one of {' '.join(_PLAIN)}"
            raise PromptError(msg)
    pieces[1::2] = [_HIDE[found] for found in pieces[1::2]]
    return "".join(pieces)


def _shown(text: str) -> str:
    return text.translate(_SHOW)


def _negative(value: str) -> str:
    if "{" in value or "}" in value:
        raise ValueError(r"a text without alternatives; for a plain brace write \{ or \}")
    return _shown(value)


def _whole(least: int) -> Callable[[str], int]:
    def make(value: str) -> int:
        if not value.isascii() or not value.isdigit() or not least <= int(value) < _SEEDS:
            raise ValueError(f"a whole number from {least} to {_SEEDS - 1}")
        return int(value)

    return make


def _weight(value: str) -> float:
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise ValueError("a number of 0 or more")
    return found


_OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "n": ("negative", _negative),
    "d": ("seed", _whole(0)),
    "s": ("steps", _whole(1)),
    "l": ("guidance", _weight),
}
