"""Parts of a section of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows of text; columns from the number `texts` on are numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
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
        return f"{value:.5f}" if 1e-3 <= abs(value) < 1e6 else f"{value:.6g}"
    return str(value)


def between(ends: Any) -> str:
    """An interval as the page shows it."""
    return f"{number(ends[0])} to {number(ends[1])}" if ends else "-"
