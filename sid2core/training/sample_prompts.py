"""The classes or prompts of the samples in training, from a file that is read each time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sid2core.conditioning import Condition, ConditionError, ConditionSpec
from sid2core.errors import Sid2Error
from sid2core.text.prompts import Prompts

KEY = "runtime.sample_prompts"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SampleConditions:
    """The conditions of the samples that are drawn in training.

    Attributes:
        usual: those without a file, of as many samples as a grid has.
        count: how many that is.
        spec: what the model is conditioned on.
        path: a text file with a class or a prompt per line; empty lines and lines that begin with #
            are skipped. Sample i has line i modulo the number of lines. None is no file.
        prompts: makes the conditions of prompts, for models that take text.
    """

    usual: Condition
    count: int
    spec: ConditionSpec
    path: str | None = None
    prompts: Prompts | None = None

    def __call__(self) -> Condition:
        """The conditions as the file has them now; the usual ones if it cannot be used."""
        try:
            return self.read()
        except Sid2Error as error:
            _log.warning("samples show the usual conditions: %s", error)
            return self.usual

    def read(self) -> Condition:
        """The same.

        Raises:
            ConditionError: the file cannot be read or is empty, names an unknown class, or the
                model takes neither classes nor text.
            TextError: what makes tokens of prompts is missing or damaged.
        """
        if self.path is None:
            return self.usual
        if self.prompts is None and self.spec.label is None:
            msg = f"{KEY}: the model takes neither classes nor text; set it to null"
            raise ConditionError(msg)
        lines = _lines(self.path)
        some = [lines[index % len(lines)] for index in range(self.count)]
        if self.prompts is not None:
            condition = self.prompts.conditions_of(some, self.spec)
            given = self.usual.given
            return condition if given is None else condition._replace(given=given)
        return self.usual._replace(label=np.array(self._classes(some), np.int32))

    def _classes(self, lines: Sequence[str]) -> list[int]:
        kind = self.spec.label
        assert kind is not None, "read for models of classes or text alone"
        try:
            return [
                kind.index(int(one) if one.isdecimal() and one not in kind.names else one)
                for one in lines
            ]
        except ConditionError as error:
            msg = f"{KEY} ({self.path}): {error}"
            raise ConditionError(msg) from None


def _lines(path: str) -> list[str]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        msg = f"{KEY}: {path} cannot be read ({reason}); give the path of a text file, or null"
        raise ConditionError(msg) from None
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        msg = f"{KEY}: {path} is empty; write a class or a prompt per line, or set it to null"
        raise ConditionError(msg)
    return found
