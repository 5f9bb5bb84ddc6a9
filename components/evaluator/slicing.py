"""Slices: which rows have which values of some columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from components.evaluator.predictions import Value, Values

Key = tuple[tuple[str, Value], ...]
Rows = npt.NDArray[np.int64]


def slices(
    columns: Sequence[str], values: Mapping[str, Values]
) -> Iterator[tuple[Key, Rows]]:
    """Each combination of values that occurs, and its rows.

    As in TFMA: a row without a value of a column is in no slice of it, a row
    with several is in several slices, and keys are sorted by column.

    Args:
        columns: that are combined.
        values: column -> its values.
    """
    names = sorted(columns)
    first = values[names[0]]
    rows, codes = first.rows, first.codes.astype(np.int64)
    for name in names[1:]:
        more = values[name]
        begins = np.searchsorted(more.rows, rows, "left")
        counts = np.searchsorted(more.rows, rows, "right") - begins
        rows = np.repeat(rows, counts)
        offsets = np.arange(len(rows)) - np.repeat(
            np.cumsum(counts) - counts, counts
        )
        there = np.repeat(begins, counts) + offsets
        codes = np.repeat(codes, counts) * len(more.values) + more.codes[there]
    order = np.argsort(codes, kind="stable")
    rows, codes = rows[order], codes[order]
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]][: len(codes)])
    ends = np.r_[starts, len(codes)][1:]
    for start, end in zip(starts, ends, strict=True):
        yield _key(names, values, int(codes[start])), rows[start:end]


def _key(names: Sequence[str], values: Mapping[str, Values], code: int) -> Key:
    key: list[tuple[str, Value]] = []
    for name in reversed(names):
        code, own = divmod(code, len(values[name].values))
        key.append((name, values[name].values[own]))
    return tuple(reversed(key))
