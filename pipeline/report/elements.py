"""Parts of a page: sections, tables, charts, and how values look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Link(NamedTuple):
    """Text of a cell that leads to another page."""

    text: str
    href: str


@dataclass(frozen=True)
class Table:
    """Rows of text; columns from the number `texts` on are numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[str | Link]]
    texts: int = 1
    caption: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Chart:
    """A picture, and its numbers."""

    caption: str
    svg: str
    table: Table


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    key: str
    title: str
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()


def number(value: Any) -> str:
    """A value as the page shows it; undefined is a dash."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if 1e-4 <= abs(value) < 1e6:
            return f"{value:.5f}"
        return f"{value:.6g}" if abs(value) >= 1 else f"{value:.3g}"
    return str(value)


def interval(ends: Any) -> str:
    return f"{number(ends[0])} to {number(ends[1])}" if ends else "-"


def share(value: float | None) -> str:
    """A part of 1 in percent; undefined is a dash."""
    return "-" if value is None else f"{100 * value:.2f} %"
