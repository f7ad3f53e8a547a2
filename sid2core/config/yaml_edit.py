"""Setting some keys of a YAML file and leaving every other byte of it as it is.

A dump of a parsed file would move or drop comments beside the lists that change, and would write
null and nested lists in another layout. Here YAML is only parsed, for where each value stands;
the new values are then put in place of the old text. Lists are written as blocks, one entry a line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sid2core.config import yaml_read
from sid2core.errors import Sid2Error

_PLAIN = re.compile(r"[A-Za-z](?:[\w./ -]*[\w./-])?", re.ASCII)
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*", re.MULTILINE)


class OverlayError(Sid2Error):
    """The file is no YAML, lacks a key, or is written in a way that cannot be edited in place."""


def load(text: str) -> Any:
    """The value of a YAML 1.2 text.

    Raises:
        OverlayError: it is not valid YAML, or exceeds the limits of :mod:`yaml_read`.
    """
    try:
        return yaml_read.load(text)
    except yaml_read.YamlProblem as error:
        raise OverlayError(str(error)) from None


def merged(base: Any, overlay: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the leaves of ``overlay`` in place of its own; lists are leaves."""
    result = dict(base) if isinstance(base, Mapping) else {}
    for key, value in overlay.items():
        result[key] = merged(result.get(key), value) if isinstance(value, Mapping) else value
    return result


def leaves(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """(``a.b.c``, value) of everything that is no mapping, in order."""
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from leaves(inner, (*path, str(key)))
        else:
            yield ".".join((*path, str(key))), inner


def differences(old: Any, new: Mapping[str, Any]) -> list[str]:
    """``key: old -> new`` for every leaf that differs in value or in type (1 is not 1.0)."""
    before = dict(leaves(old)) if isinstance(old, Mapping) else {}
    return [
        f"{key}: {_inline(before[key]) if key in before else '(nothing)'} -> {_inline(value)}"
        for key, value in leaves(new)
        if key not in before or not _same(before[key], value)
    ]


def _same(one: Any, other: Any) -> bool:
    """Equal in value and in type: 1 is neither 1.0 nor true."""
    return json.dumps(one, default=str) == json.dumps(other, default=str)


def write_into(text: str, overlay: Mapping[str, Any]) -> str:
    """``text`` with the leaves of ``overlay`` in place of its own, all else byte for byte.

    A comment inside a list that changes moves to the list's top.

    Raises:
        OverlayError: a key is missing, or the text uses YAML that this cannot edit (aliases).
    """
    expected = merged(load(text), overlay)
    root = YAML(typ="safe", pure=True).compose(text)
    edits = sorted(_edits(text, root, overlay, ()))
    for start, stop, replacement in reversed(edits):
        text = text[:start] + replacement + text[stop:]
    try:
        found = load(text)
    except OverlayError:
        found = None
    if not _same(found, expected):
        msg = "its YAML is too elaborate to be edited in place; write it with plain block mappings"
        raise OverlayError(msg)
    return text


def _edits(
    text: str, node: Node | None, overlay: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[int, int, str]]:
    """(start, stop, replacement) for every leaf of ``overlay`` under ``node``."""
    pairs = node.value if isinstance(node, MappingNode) else []
    known = {key.value: (key, value) for key, value in pairs}
    for name, value in overlay.items():
        here = (*path, str(name))
        if name not in known:
            msg = f"it has no key {'.'.join(here)} to set; put the key back"
            raise OverlayError(msg)
        key, old = known[name]
        if isinstance(value, Mapping):
            yield from _edits(text, old, value, here)
        else:
            yield _edit(text, key, old, value)


def _edit(text: str, key: ScalarNode, old: Node, new: Any) -> tuple[int, int, str]:
    """The edit of what stands between a key and the end of its value."""
    start, stop = key.end_mark.index, _end(old)
    if old.start_mark.index == old.end_mark.index:  # nothing there, which is null, marked too late
        stop = text.index(":", start) + 1
    comments = _COMMENT.findall(text[start:stop]) if isinstance(old, SequenceNode) else []
    if comments and _same(load(text[start:stop].partition(":")[2]), new):
        return start, stop, text[start:stop]
    if not isinstance(new, list) or not new:
        # Comments cannot stand between a key and a value on its line.
        return start, stop, ": " + _inline(new) + "".join(f"  {comment}" for comment in comments)
    indent = "\n" + " " * (key.start_mark.column + 2)
    return start, stop, ":" + "".join(f"{indent}{line}" for line in [*comments, *_block(new)])


def _end(node: Node) -> int:
    """Where the last character of a value stands; a block's own mark lies beyond comments."""
    if isinstance(node, SequenceNode) and not node.flow_style:
        return _end(node.value[-1])
    if isinstance(node, MappingNode) and not node.flow_style:
        return _end(node.value[-1][1])
    return node.end_mark.index


def _block(values: list[Any] | Mapping[str, Any]) -> Iterator[str]:
    """The lines of a block list or mapping, lists and mappings within it included."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            if isinstance(value, list | Mapping) and value:
                yield f"{key}:"
                yield from (f"  {line}" for line in _block(value))
            else:
                yield f"{key}: {_inline(value)}"
        return
    for value in values:
        if isinstance(value, list | Mapping) and value:
            first, *others = _block(value)
            yield f"- {first}"
            yield from (f"  {line}" for line in others)
        else:
            yield f"- {_inline(value)}"


def _inline(value: Any) -> str:
    """A value on one line, as YAML 1.1 and 1.2 both read it."""
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, float):
        mantissa, *exponent = repr(value).split("e")
        # YAML 1.1 takes 1e-05 for text.
        return "e".join([mantissa if "." in mantissa else f"{mantissa}.0", *exponent])
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=isinstance(value, str) and not value.isprintable())
