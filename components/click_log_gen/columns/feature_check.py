"""A check of features: integers out of range, columns without a value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


class FeatureCheck:
    """Check of the good rows of a chunk.

    ranges: column of integers -> they are from 0 to below.
    """

    def __init__(self, ranges: Mapping[str, int]) -> None:
        self._ranges = ranges
        self._outside: Counter[str] = Counter()
        self._filled: set[str] = set()

    def see(self, columns: Mapping[str, pa.Array]) -> None:
        """Takes the columns of some more rows, typed."""
        for name, array in columns.items():
            if array.null_count < len(array):
                self._filled.add(name)
        for name, end in self._ranges.items():
            array = columns[name]
            inside = pc.and_(pc.greater_equal(array, 0), pc.less(array, end))
            count = len(array) - array.null_count
            self._outside[name] += count - (pc.sum(inside).as_py() or 0)

    def to_json(self) -> dict[str, Any]:
        """All of it in JSON types."""
        return {
            "out_of_range": dict(self._outside),
            "filled": sorted(self._filled),
        }


def total(
    parts: Iterable[Mapping[str, Any]], columns: Iterable[str]
) -> dict[str, Any]:
    """Sum of all chunks: counts out of range, and columns without any value."""
    outside: Counter[str] = Counter()
    empty = set(columns)
    for part in parts:
        outside.update(part["out_of_range"])
        empty -= set(part["filled"])
    return {"out_of_range": dict(outside), "empty_columns": sorted(empty)}
