"""Reading YAML 1.2 with limits: a larger or deeper file is refused.

YAML lets a few lines stand for billions of values (aliases of aliases) and nests without end.
A text beyond the limits is refused before anything walks through its values.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 40
MAX_VALUES = 100_000
_MAX_LINES = 12


class YamlProblem(Exception):
    """A text that is not used; the message says why, without the name of its file."""


def load(text: str) -> Any:
    """The value of a YAML 1.2 text.

    Raises:
        YamlProblem: it is not valid YAML, or larger, deeper or more repetitive than the limits.
    """
    if len(text) > MAX_CHARACTERS:
        msg = f"found {len(text):,} characters; expected at most {MAX_CHARACTERS:,}"
        raise YamlProblem(msg)
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except RecursionError:
        raise _too_deep() from None
    except (YAMLError, ValueError) as error:  # ValueError: no such date, or too many digits
        lines = str(error).splitlines()[:_MAX_LINES]
        msg = "not valid YAML: " + "\n".join(line[:200] for line in lines)
        raise YamlProblem(msg) from None
    values = _count(value, {}, ())
    if values > MAX_VALUES:
        msg = (
            f"its aliases (*name) stand for {values:.2g} values; expected at most {MAX_VALUES:,}: "
            "write the values out"
        )
        raise YamlProblem(msg)
    return value


def shown(value: Any, limit: int = 80) -> str:
    """``repr(value)`` for a message, shortened in its middle to about ``limit`` characters."""
    short = _Short()
    short.maxlevel, short.maxlist, short.maxdict = 3, 12, 6
    short.maxstring = short.maxlong = short.maxother = limit
    text = short.repr(value)
    return text if len(text) <= 2 * limit else f"{text[:limit]}...{text[-limit // 4 :]}"


class _Short(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write an integer of more than 4,300 digits."""
        bits = x.bit_length()
        return super().repr_int(x, level) if bits < 10_000 else f"an integer of {bits:,} bits"


def _count(value: Any, known: dict[int, int], parents: tuple[int, ...]) -> int:
    """How many values there are with each alias written out; each object is counted once."""
    if not isinstance(value, Mapping | list):
        return 1
    if id(value) in parents:
        msg = "an alias (*name) contains itself; write the value out"
        raise YamlProblem(msg)
    if len(parents) >= MAX_DEPTH:
        raise _too_deep()
    if id(value) not in known:
        inner = list(value.values()) if isinstance(value, Mapping) else value
        below = (*parents, id(value))
        known[id(value)] = 1 + sum(_count(one, known, below) for one in inner)
    return known[id(value)]


def _too_deep() -> YamlProblem:
    return YamlProblem(f"it is nested more than {MAX_DEPTH} deep; a key is at most a few deep")
