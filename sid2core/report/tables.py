"""Tables ready to be laid out: text in cells, the best of each column marked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """The text of a cell, and whether it is its column's best."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table: its name, its cells, and what sets it apart, if anything."""

    name: str
    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table: a heading for the row names, one for each column, the rows."""

    corner: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
