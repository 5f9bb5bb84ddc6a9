"""Local times to UTC and back, by the IANA database."""

from __future__ import annotations

import datetime
import functools
import zoneinfo
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_DAY = 86_400
_FIRST = 7_000 * _DAY  # 1989
_LAST = 47_500 * _DAY  # 2100


def utc(local: Ints, zone: str | None) -> Ints:
    """Microseconds of a wall clock as microseconds since 1970 in UTC.

    As with `fold=0` in Python: of a time that the clock shows twice the first
    counts, and one that it skips has the offset from before.
    """
    if zone in (None, "UTC"):
        return local
    found = changes(zone)
    at = np.searchsorted(found.walls, local // 10**6, "right")
    return local - found.offsets[at] * 10**6


def days(seconds: Ints, zone: str | None) -> Ints:
    """Days since 1970 of moments, by the clock of a zone; None: UTC."""
    if zone not in (None, "UTC"):
        found = changes(zone)
        at = np.searchsorted(found.moments, seconds, "right")
        seconds = seconds + found.offsets[at]
    return seconds // _DAY


class Changes(NamedTuple):
    """When the clock of a zone changes, from 1989 to 2100.

    moments: seconds since 1970 from which a new offset holds. walls: the same
    on the wall clock: see `utc`. offsets: seconds ahead of UTC, one more.
    """

    moments: Ints
    walls: Ints
    offsets: Ints


@functools.lru_cache(maxsize=8)
def changes(zone: str) -> Changes:
    """Changes of the clock of an IANA zone."""
    rules = zoneinfo.ZoneInfo(zone)

    def offset(second: int) -> int:
        moment = datetime.datetime.fromtimestamp(second, rules)
        shift = moment.utcoffset()
        assert shift is not None
        return round(shift.total_seconds())

    offsets = [offset(_FIRST)]
    moments, walls = [], []
    for day in range(_FIRST, _LAST, _DAY):
        after = offset(day + _DAY)
        if after == offsets[-1]:
            continue
        low, high = day, day + _DAY  # the change is in (low, high]
        while high - low > 1:
            middle = (low + high) // 2
            if offset(middle) == offsets[-1]:
                low = middle
            else:
                high = middle
        moments.append(high)
        walls.append(high + max(offsets[-1], after))
        offsets.append(after)
    return Changes(*(np.array(x, np.int64) for x in (moments, walls, offsets)))
