"""The join itself: which click each impression of a partition has.

Of the impressions with one key the first by time counts, of the clicks within
its window the first by time too. Where times are equal the rows' content
decides, so that the order of the files does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Fates = npt.NDArray[np.int8]

# Fates of an impression: the name it is counted under, and why it is no
# example.
IMPRESSION_OUTCOMES = (
    ("kept", ""),
    ("duplicates", "duplicate: an earlier impression has this key"),
    ("held_back", "held back: its window ends after the click log"),
    ("spoiled", "its click was rejected"),
)
KEPT, DUPLICATE, HELD_BACK, SPOILED = range(4)

# Fates of a click. A rejected one was so before the join.
CLICK_OUTCOMES = (
    ("joined", ""),
    ("orphans", "no impression has this key"),
    ("early", "before its impression"),
    ("late", "after the window of its impression"),
    ("repeated", "a further click of its impression"),
    ("held_back", "its impression is held back"),
    ("rejected", ""),
)
JOINED, ORPHAN, EARLY, LATE, REPEATED, WAITING, REJECTED = range(7)

# Reasons that do not count against data.max_rejected.
NO_FAULT = {
    IMPRESSION_OUTCOMES[HELD_BACK][1],
    *(reason for _, reason in CLICK_OUTCOMES),
}


class Log(Protocol):
    """Rows with the columns key, time, features, row; of clicks also fault."""

    def column(self, name: str) -> pa.Array:
        """One column of all rows."""


@dataclass(frozen=True)
class JoinedRows:
    """Outcome of each row.

    impressions: index into IMPRESSION_OUTCOMES of each.
    clicks: index into CLICK_OUTCOMES of each.
    click: of each impression, the index of its click, or -1.
    """

    impressions: Fates
    clicks: Fates
    click: Ints


def match(impressions: Log, clicks: Log, window: int, end: int) -> JoinedRows:
    """Joins two logs, which hold all rows of their keys.

    Args:
        window: microseconds in which a click belongs to its impression.
        end: time of the last click that the log would hold; impressions
            whose window ends later are held back.
    """
    shown, clicked = _numbers(impressions.column("key"), clicks.column("key"))
    time, when = _times(impressions), _times(clicks)
    fault = clicks.column("fault").is_valid().to_numpy(zero_copy_only=False)

    first = _firsts(shown, time, lambda rows: _content(impressions, rows))
    fates = np.full(len(shown), DUPLICATE, np.int8)
    fates[first] = np.where(time[first] + window <= end, KEPT, HELD_BACK)

    # Row of each click's impression; of each key, that of the first.
    numbers = 1 + max(shown.max(initial=-1), clicked.max(initial=-1))
    by_key = np.full(numbers, -1)
    by_key[shown[first]] = first
    owner = by_key[clicked]
    begin = np.append(time, 0)[owner]
    what = np.select(
        [owner < 0, when < begin, when > begin + window],
        [ORPHAN, EARLY, LATE],
        REPEATED,
    ).astype(np.int8)
    inside = np.flatnonzero(what == REPEATED)
    chosen = inside[
        _firsts(
            owner[inside],
            when[inside],
            lambda rows: _content(clicks, inside[rows]),
        )
    ]
    owner = owner[chosen]
    what[chosen] = np.where(fates[owner] == KEPT, JOINED, WAITING)
    what[fault] = REJECTED
    spoiled = owner[fault[chosen]]
    fates[spoiled] = np.where(fates[spoiled] == KEPT, SPOILED, fates[spoiled])
    click = np.full(len(shown), -1)
    click[owner] = chosen
    return JoinedRows(fates, what, np.where(fates == KEPT, click, -1))


def _numbers(*keys: pa.Array) -> list[Ints]:
    """A number for each key, the same for equal keys."""
    encoded = pa.concat_arrays(keys).dictionary_encode()
    numbers = encoded.indices.to_numpy().astype(np.int64)
    return np.split(numbers, np.cumsum([len(part) for part in keys])[:-1])


def _times(log: Log) -> Ints:
    times: Ints = log.column("time").to_numpy()
    return times


def _content(log: Log, rows: Ints) -> list[pa.Array]:
    return [log.column(name).take(pa.array(rows)) for name in _CONTENT]


_CONTENT = ("features", "row")


def _firsts(
    groups: Ints, times: Ints, content: Callable[[Ints], list[pa.Array]]
) -> Ints:
    """The row of each group that comes first by time, then by content."""
    order = np.lexsort((times, groups))
    groups, times = groups[order], times[order]
    new = np.append(True, groups[1:] != groups[:-1])[: len(groups)]
    start = np.flatnonzero(new)
    group = np.cumsum(new) - 1
    tied = times == times[start][group]
    rivals = tied & (np.bincount(group, tied, len(start))[group] > 1)
    first: Ints = order[start]
    if rivals.any():
        rows, group = order[rivals], group[rivals]
        table = pa.table([group, *content(rows)], ["group", *_CONTENT])
        ranks = pc.sort_indices(
            table, [(name, "ascending") for name in table.column_names]
        ).to_numpy()
        _, best = np.unique(group[ranks], return_index=True)
        first[np.unique(group)] = rows[ranks][best]
    return first
