"""Sightings of values by day, and the vocabulary that they admit.

The ledger of a run holds what the next one has to know: it lies beside the
transform's graph, then in the training's state. A vocabulary is

    {v: sightings of v in the last `days` >= `min_count`}
    | {v admitted by the run before: last seen less than `evict_after` days ago}

cut to the `max_size` commonest of the last `days`. Days end with the newest one
that was ever seen, so a run of older logs turns no clock back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.preprocessing import counted_times
from models.preprocessing.counted_times import Intervals
from models.preprocessing.vocabulary import Vocabulary, usable

SCHEMA = pa.schema(
    {"value": pa.binary(), "day": pa.int32(), "count": pa.int64()}
)
# fresh: sightings at times whose rows no run before has counted.
SEEN = SCHEMA.append(pa.field("fresh", pa.int64()))
_DAY = 86_400
_FEW = 1000  # of so many rows one may have a time that is too late
_FAR = 100  # and one where no day before is in the window that it ends


@dataclass(frozen=True)
class Ledger:
    """Sightings and admitted values of all runs so far.

    day: the newest day, since 1970; None: there was no run.
    counts: sightings by value and day, of the last days.
    admitted: values in the vocabulary, and the day when each was last seen.
    times: those whose rows are counted, of the last days.
    """

    day: int | None = None
    counts: pa.Table = field(default_factory=SCHEMA.empty_table)
    admitted: pa.Table = field(default_factory=SCHEMA.remove(2).empty_table)
    times: Intervals = field(default_factory=counted_times.NONE.copy)


@dataclass(frozen=True)
class Tally:
    """Numbers of values after a run.

    day: the newest one, ISO 8601. known: admitted or waiting. new: admitted by
    this run. waiting: seen in the last days, without a row. evicted: not seen
    any more. capped: would be admitted, but for `max_size`. forgotten: waited,
    but for the bound on those that do. outside: share of this run's rows that
    are of days before the window, or too late.
    """

    day: str | None
    known: int
    admitted: int
    new: int
    waiting: int
    evicted: int
    capped: int
    forgotten: int
    outside: float = 0.0


def merged(tables: list[pa.Table]) -> pa.Table:
    """Sums the sightings of equal values on equal days, of `SEEN`."""
    table = pa.concat_tables([SEEN.empty_table(), *tables])
    if not table.num_rows:
        return table  # Arrow would reserve gigabytes to group nothing
    found = table.group_by(["value", "day"]).aggregate(
        [("count", "sum"), ("fresh", "sum")]
    )
    names = [name.removesuffix("_sum") for name in found.column_names]
    return found.rename_columns(names).select(SEEN.names)


def update(
    ledger: Ledger,
    seen: pa.Table,
    rule: Vocabulary,
    times: Intervals = counted_times.NONE,
) -> tuple[Ledger, list[bytes], Tally]:
    """The ledger after a run, its vocabulary, and what came of the values.

    A row counts once. Of a value on a day there are

        max(known + fresh, count)

    sightings: `known` by the runs before, `fresh` at times that they have not
    counted, `count` in all that this run has read of the day. Both are of
    different rows, so that no row counts twice. Memory: each value of both a
    few times over.

    Args:
        ledger: of the run before.
        seen: of this run, as `merged` gives it. Empty values, which no
            vocabulary holds, count the rows of each day.
        rule: with `admission`.
        times: of this run's rows.
    """
    asked = rule.admission
    assert asked is not None
    days = seen.filter(pc.equal(pc.binary_length(seen["value"]), 0))
    newest = _newest(days, asked.days)
    seen = seen.filter(usable(seen["value"]))
    day = max((d for d in (ledger.day, newest) if d is not None), default=None)
    if day is None:
        return ledger, [], _tally(None, *[np.zeros(0, bool)] * 6)
    seen = seen.filter(pc.less_equal(seen["day"], day + 1))
    since = day - asked.days + 1
    inside = (days["day"].to_numpy() >= since) & (
        days["day"].to_numpy() <= day + 1
    )
    read = days["count"].to_numpy()
    outside = float(read[~inside].sum() / max(1, read.sum()))
    counts = _added(_from(ledger.counts, since), seen)
    state = _per_value(counts, since, ledger.admitted)
    count, last = (state[n].to_numpy() for n in ("count", "last"))
    was = state["was"].to_numpy()
    rows = (count >= rule.min_count) | (was & (day - last < asked.last))
    evicted = was & ~rows
    admitted = _first(rows, rule.max_size)  # the state is in order
    waiting = ~admitted & (count > 0)
    kept = _first(waiting, asked.waiting)
    following = Ledger(
        day,
        _of_values(
            _from(counts, since),
            state["value"].filter(pa.array(admitted | kept)),
        ),
        state.filter(pa.array(admitted))
        .select(["value", "last"])
        .rename_columns(["value", "day"]),
        # No day of a zone begins so early.
        counted_times.since(
            counted_times.union(ledger.times, times), _DAY * (since - 1)
        ),
    )
    tally = _tally(
        day, admitted, was, kept, evicted, rows & ~admitted, waiting & ~kept
    )
    tally = replace(tally, outside=outside)
    # As TFT orders a vocabulary; a run that is repeated gives the same file.
    ordered = state.filter(pa.array(admitted)).sort_by(
        [("count", "descending"), ("value", "descending")]
    )
    return following, list(ordered["value"].to_pylist()), tally


def _newest(days: pa.Table, window: int) -> int | None:
    """The newest day; a few rows of a clock that is wrong make none.

    Args:
        days: the rows of each day.
        window: so many days.
    """
    if not days.num_rows:
        return None
    days = days.sort_by([("day", "descending")])
    later = np.cumsum(days["count"].to_numpy())
    at = int(np.argmax(later * _FEW >= later[-1]))
    # A day that leaves the window to few rows: nothing else were in it.
    numbers = days["day"].to_numpy()
    alone = numbers[:-1] - numbers[1:] >= max(window, 2)
    far = np.flatnonzero(alone & (later[:-1] * _FAR < later[-1]))
    at = max(at, int(far[-1]) + 1 if len(far) else 0)
    return int(numbers[at])


def _from(counts: pa.Table, day: int) -> pa.Table:
    """Sightings of a day and those after it."""
    return counts.filter(pc.greater_equal(counts["day"], day))


def _added(known: pa.Table, seen: pa.Table) -> pa.Table:
    """Sightings by value and day after a run, of `SCHEMA`."""
    again = pc.is_in(known["day"], seen["day"].unique())
    before = known.filter(again)
    none = pa.chunked_array([np.zeros(before.num_rows, np.int64)])
    columns = [before["value"], before["day"], none, before["count"]]
    found = merged([pa.table(columns, schema=SEEN), seen])
    most = pc.max_element_wise(found["count"], found["fresh"])
    others = known.filter(pc.invert(again))  # most: they stay as they are
    return pa.concat_tables(
        [others, found.drop(["fresh"]).set_column(2, "count", most)]
    )


def _tally(
    day: int | None,
    admitted: npt.NDArray[np.bool_],
    was: npt.NDArray[np.bool_],
    kept: npt.NDArray[np.bool_],
    evicted: npt.NDArray[np.bool_],
    capped: npt.NDArray[np.bool_],
    forgotten: npt.NDArray[np.bool_],
) -> Tally:
    numbers = (
        admitted | kept, admitted, admitted & ~was, kept,
        evicted, capped, forgotten,
    )  # fmt: skip
    text = None if day is None else str(np.datetime64(day, "D"))
    return Tally(text, *(int(np.count_nonzero(n)) for n in numbers))


def _per_value(counts: pa.Table, since: int, admitted: pa.Table) -> pa.Table:
    """Each value's count from a day on, last day, and whether it has a row.

    The commonest first; of equal ones those with a row, then in reverse order
    of the bytes.
    """
    recent = pc.greater_equal(counts["day"], since)
    counts = counts.set_column(
        2, "count", pc.if_else(recent, counts["count"], 0)
    )
    none = pa.chunked_array([np.zeros(admitted.num_rows, np.int64)])
    found = pa.concat_tables([counts, admitted.append_column("count", none)])
    if found.num_rows:  # Arrow would reserve gigabytes to group nothing
        found = found.group_by("value").aggregate(
            [("count", "sum"), ("day", "max")]
        )
    names = {"count_sum": "count", "day_max": "last", "day": "last"}
    state = found.rename_columns(
        [names.get(name, name) for name in found.column_names]
    ).select(["value", "count", "last"])
    was = pc.is_in(state["value"], admitted["value"].combine_chunks())
    return state.append_column("was", was).sort_by(
        [(name, "descending") for name in ("count", "was", "value")]
    )


def _first(chosen: npt.NDArray[np.bool_], most: int) -> npt.NDArray[np.bool_]:
    """`chosen`, but not more than the first `most`."""
    return chosen & (np.cumsum(chosen) <= most)


def _of_values(counts: pa.Table, values: pa.ChunkedArray) -> pa.Table:
    return counts.filter(pc.is_in(counts["value"], values.combine_chunks()))
