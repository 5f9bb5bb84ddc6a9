"""Times whose rows are counted, as intervals of seconds since 1970."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Intervals = npt.NDArray[np.int64]  # [K, 2], both ends inside; in order

NONE: Intervals = np.zeros((0, 2), np.int64)
_HOUR = 3600


def by_hour(seconds: Ints) -> Intervals:
    """First and last time of each hour that has one.

    A pause of an hour between rows stays a pause; a shorter one may not.
    """
    ordered = np.sort(seconds.reshape(-1))
    if not len(ordered):
        return NONE
    cuts = np.flatnonzero(np.diff(ordered // _HOUR)) + 1
    first, last = np.append(0, cuts), np.append(cuts, len(ordered)) - 1
    return np.stack([ordered[first], ordered[last]], axis=1)


def union(one: Intervals, other: Intervals) -> Intervals:
    """Intervals of both; those without a second between them become one."""
    both = np.concatenate([one, other])
    both = both[np.argsort(both[:, 0], kind="stable")]
    if not len(both):
        return NONE
    ends = np.maximum.accumulate(both[:, 1])
    begins = np.flatnonzero(both[1:, 0] > ends[:-1] + 1) + 1
    first = np.append(0, begins)
    last = np.append(begins, len(both)) - 1
    return np.stack([both[first, 0], ends[last]], axis=1)


def inside(seconds: Ints, known: Intervals) -> npt.NDArray[np.bool_]:
    """Which times are in `known`, a union."""
    if not len(known):
        return np.zeros(len(seconds), bool)
    at = np.searchsorted(known[:, 0], seconds, "right") - 1
    return (at >= 0) & (seconds <= known[at, 1])


def share(some: Intervals, known: Intervals) -> bool | None:
    """True if all of `some` is in `known`, a union; False if nothing is.

    None: a part is.
    """
    if not len(known):
        return False
    at = np.searchsorted(known[:, 0], some[:, 1], "right") - 1
    meets = (at >= 0) & (known[at, 1] >= some[:, 0])
    if not meets.any():
        return False
    within = meets & (known[at, 0] <= some[:, 0]) & (known[at, 1] >= some[:, 1])
    return True if within.all() else None


def since(known: Intervals, second: int) -> Intervals:
    """The intervals that end at `second` or later."""
    return known[known[:, 1] >= second]
