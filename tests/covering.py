"""Cells of a grid of parameters that have every pair of values between them.

A fault that needs three values at once is rare, a grid's product is large:
`make test` runs these cells, `make slow` the others.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations

Values = tuple[tuple[str, Hashable], ...]


def covering(cells: Sequence[Mapping[str, Hashable]]) -> set[int]:
    """Places of cells that have all pairs; the most new ones first.

    Args:
        cells: of each, parameter -> its value.
    """
    pairs = [_pairs(cell) for cell in cells]
    wanted = set[Values]().union(*pairs)
    chosen: set[int] = set()
    while wanted:
        news = [len(found & wanted) for found in pairs]
        best = news.index(max(news))
        chosen.add(best)
        wanted -= pairs[best]
    return chosen


def _pairs(cell: Mapping[str, Hashable]) -> set[Values]:
    """Pairs of a cell; its only value where there is one parameter."""
    return set(combinations(cell.items(), min(2, len(cell))))
