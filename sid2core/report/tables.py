"""Tables of text for the template."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """The text of a cell, and whether it is the best of its column."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table: its name, its cells, and its CSS class, if any."""

    name: str
    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table: the heading of the row names, one heading per column, and the rows."""

    corner: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
