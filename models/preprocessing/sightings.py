"""The part of Transform's analysis that finds an admitted vocabulary."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.preprocessing import counted_times, ledger_file
from models.preprocessing.admission import SEEN, Ledger, merged, update
from models.preprocessing.counted_times import Intervals
from models.preprocessing.vocabulary import Vocabulary, write_lines

_MERGE_AT = 1 << 18  # rows of counts kept before they are merged
_TIMES = b"times"  # of the rows of a table, beside its schema

Ints = npt.NDArray[np.int64]


class TimedValues(NamedTuple):
    """Values of some rows, and when these happened.

    texts: bytes [V]. rows: int64 [V], the row of each. days: int32 [N], of all
    rows, and times: int64 [N], their seconds since 1970.
    """

    texts: npt.NDArray[np.object_] | pa.Array
    rows: Ints
    days: npt.NDArray[np.int32]
    times: Ints


class Sightings:
    """Counts by value and day, of all rows and of those that are fresh.

    Args:
        rule: with `admission`.
        ledgers: folder of those of the run before; "": there is none.
    """

    schema = SEEN

    def __init__(self, rule: Vocabulary, ledgers: str = "") -> None:
        self._rule = rule
        self._ledgers = ledgers
        self._known = counted_times.NONE
        if ledgers:
            self._known = ledger_file.times(ledgers, rule.file_name)
        self._merged = SEEN.empty_table()
        self._new: list[pa.Table] = []
        self._new_rows = 0
        self._times = counted_times.NONE

    def add(self, values: TimedValues) -> None:
        """Takes the values of a batch."""
        texts, rows, days, times = values
        if isinstance(texts, np.ndarray):
            texts = pa.array(texts.reshape(-1), pa.binary())
        if isinstance(texts, pa.Array):
            texts = pa.chunked_array([texts])
        fresh = (~counted_times.inside(times, self._known)).astype(np.int64)
        each = pa.array([b""] * len(days), pa.binary())
        tables = [
            _table(texts, days[rows], fresh[rows]),
            _table(pa.chunked_array([each]), days, fresh),
        ]
        self._take(merged(tables), counted_times.by_hour(times))

    def save(self) -> pa.Table:
        """A row for each value and day, and the times of all rows."""
        return self._sum().replace_schema_metadata(
            {_TIMES: self._times.tobytes()}
        )

    def merge(self, saved: pa.Table) -> None:
        """Adds the sightings.

        Of a file that is `partly_known` this very run must have seen the rows.
        """
        times = _times_of(saved)
        table = saved.replace_schema_metadata()
        known = counted_times.share(times, self._known)
        if known is not None:
            fresh = table["count"]
            if known:
                fresh = pa.chunked_array([np.zeros(len(fresh), np.int64)])
            table = table.set_column(3, SEEN.field("fresh"), fresh)
        self._take(table, times)

    def partly_known(self, saved: pa.Table) -> bool:
        """True if runs before have counted a part of the rows."""
        return counted_times.share(_times_of(saved), self._known) is None

    def write(self, folder: str) -> None:
        """The vocabulary, a line a value; the ledger and the tally beside."""
        name = self._rule.file_name
        before = Ledger()
        if self._ledgers:
            before = ledger_file.read(self._ledgers, name)
        ledger, values, tally = update(
            before, self._sum(), self._rule, self._times
        )
        write_lines(values, os.path.join(folder, name))
        target = os.path.join(folder, ledger_file.FOLDER)
        ledger_file.write(target, name, ledger, tally)

    def _take(self, table: pa.Table, times: Intervals) -> None:
        both = np.concatenate([self._times, times])
        self._times = counted_times.by_hour(both)
        self._new.append(table)
        self._new_rows += table.num_rows
        # As much again each time, so that no row is merged often.
        if self._new_rows > max(_MERGE_AT, self._merged.num_rows):
            self._sum()

    def _sum(self) -> pa.Table:
        if self._new:
            self._merged = merged([self._merged, *self._new])
            self._new, self._new_rows = [], 0
        return self._merged


def _table(
    texts: pa.ChunkedArray, days: npt.NDArray[np.int32], fresh: Ints
) -> pa.Table:
    columns = [days, np.ones(len(days), np.int64), fresh]
    arrays = [texts, *(pa.array(column) for column in columns)]
    return pa.table(arrays, schema=SEEN)


def _times_of(saved: pa.Table) -> Intervals:
    data = saved.schema.metadata[_TIMES]
    return np.frombuffer(data, np.int64).reshape(-1, 2)
