"""Exact counts of a feature's values, in memory that does not grow with rows.

Counts beyond a bound go to files, by buckets of values: each value is in one of
the buckets, and these are merged one by one.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_PENDING = 1 << 18  # counts kept apart before they are merged
_KEPT = 1 << 19  # distinct values in memory before they go to files
_BYTES = 1 << 28  # of values in memory, with those not merged yet
_BUCKETS = 32


class ValueCounts:
    """How often each value was seen; any thread may add.

    Args:
        folder: where files go; it is made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._parts: list[pa.Table] = []
        self._pending = 0
        self._bytes = 0
        self._spilled = 0  # times

    def add(self, values: pa.Array) -> None:
        """Counts the values of a batch, binary or large_binary [values]."""
        counts = values.value_counts()
        # Arrow groups binary several times faster than large_binary.
        value = counts.field("values").cast(pa.binary())
        columns = [value, counts.field("counts")]
        table = pa.table(columns, ["value", "count"])
        with self._lock:
            self._parts.append(table)
            self._pending += len(table)
            self._bytes += table.nbytes
            many = self._bytes > _BYTES
            if many or self._pending > max(_PENDING, 2 * len(self._parts[0])):
                self._compact()
                if self._pending > _KEPT or self._bytes > _BYTES // 2:
                    self._spill()

    def top(self, most: int) -> tuple[list[bytes], list[int], int]:
        """The commonest values, their counts, and how many values there are.

        Equal counts are in descending order of values, as in TFDV.
        """
        self._compact()
        if not self._spilled:
            first, distinct = _top(self._parts, most)
        else:
            self._spill()
            found = [
                _top([_merged(self._read(bucket))], most)
                for bucket in range(_BUCKETS)
            ]
            distinct = sum(number for _, number in found)
            first, _ = _top([pa.concat_tables(t for t, _ in found)], most)
        if not distinct:
            return [], [], 0
        return first["value"].to_pylist(), first["count"].to_pylist(), distinct

    def _compact(self) -> None:
        if len(self._parts) > 1:
            self._parts = [_merged(self._parts)]
        self._pending = sum(map(len, self._parts))
        self._bytes = sum(part.nbytes for part in self._parts)

    def _spill(self) -> None:
        """Writes all that is in memory, a file for each bucket."""
        if not self._parts:
            return
        (table,) = self._parts
        bucket = _buckets(table["value"])
        order = np.argsort(bucket, kind="stable")
        table = table.take(pa.array(order))
        ends = np.searchsorted(bucket[order], np.arange(_BUCKETS + 1))
        self._folder.mkdir(parents=True, exist_ok=True)
        for number in range(_BUCKETS):
            part = table.slice(ends[number], ends[number + 1] - ends[number])
            path = self._folder / f"{number}-{self._spilled}.arrow"
            with (
                pa.OSFile(str(path), "wb") as file,
                pa.ipc.new_stream(file, part.schema) as writer,
            ):
                writer.write_table(part)
        self._spilled += 1
        self._parts, self._pending, self._bytes = [], 0, 0

    def _read(self, bucket: int) -> list[pa.Table]:
        tables = []
        for number in range(self._spilled):
            path = self._folder / f"{bucket}-{number}.arrow"
            with pa.OSFile(str(path), "rb") as file:
                tables.append(pa.ipc.open_stream(file).read_all())
        return tables


def _merged(tables: Sequence[pa.Table]) -> pa.Table:
    table = pa.concat_tables(tables)
    if not len(table):
        return table  # Arrow would reserve gigabytes to group nothing
    summed = table.group_by("value").aggregate([("count", "sum")])
    return summed.rename_columns(["value", "count"])


def _top(tables: Sequence[pa.Table], most: int) -> tuple[pa.Table, int]:
    """The first values of one table of counts, and how many it has."""
    if not tables:
        return pa.table({}), 0
    (table,) = tables
    counts = table["count"].to_numpy()
    if len(counts) > most:
        # Only those that may be among the first are sorted by value.
        least = np.partition(counts, len(counts) - most)[-most]
        table = table.filter(pa.array(counts >= least))
    order = pc.sort_indices(
        table, [("count", "descending"), ("value", "descending")]
    )
    return table.take(order[:most]), len(counts)


def _buckets(values: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """A number below `_BUCKETS` for each value, by its last bytes."""
    array = values.cast(pa.large_binary()).combine_chunks()
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64)
    ends = ends[array.offset : array.offset + len(array) + 1]
    text = np.frombuffer(data or b"\0", np.uint8)
    sizes = np.diff(ends)
    found = sizes.copy()
    for place in range(1, 4):
        there = sizes >= place
        byte = text[np.where(there, ends[1:] - place, 0)].astype(np.int64)
        found = found * 31 + np.where(there, byte, 0)
    return (found * 2_654_435_761 >> 16) % _BUCKETS
