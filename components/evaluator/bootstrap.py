"""Poisson bootstrap of rows or groups: how much a metric owes to chance.

A replicate draws a Poisson(1) count for each unit, and weights the unit's rows
by it. A unit is a row, or all rows of a group. Where there are more than
`UNITS` of them, they are dealt at random into `UNITS` sets of equal size, and a
set is drawn as one: that leaves the expected variance as it is, and adds an
error of 1 / sqrt(2 UNITS), 1.6 %, to the interval's width, less than 1,000
replicates leave anyway. All metrics, slices and models share the same draws, so
a difference between two models is paired.

An interval holds the middle share (`confidence`) of the replicates, moved so
that their median is the metric's value: what a replicate is off by on average
(the calibration error is noisier in each) is not the value's own error.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.metrics import Array

UNITS = 2048
MIN_UNITS = 10  # fewer tell nothing about chance
_SEED = 20231122


def units(
    rows: int, groups: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int32]:
    """Number of the unit of each row, [rows], below `UNITS`.

    Args:
        rows: how many there are.
        groups: 0, 1, ... of each row; -1: the row is a unit by itself.
    """
    if groups is None:
        identity = np.arange(rows)
    else:
        alone = groups < 0
        identity = groups.copy()
        identity[alone] = groups.max(initial=-1) + 1 + np.arange(alone.sum())
    count = int(identity.max(initial=-1)) + 1
    if count <= UNITS:
        return identity.astype(np.int32)
    dealt = np.random.default_rng(_SEED).permutation(count) % UNITS
    return dealt.astype(np.int32)[identity]


def draws(replicates: int) -> npt.NDArray[np.float32]:
    """Poisson(1) counts, [replicates, UNITS]."""
    rng = np.random.default_rng(_SEED)
    return rng.poisson(1.0, (replicates, UNITS)).astype(np.float32)


def interval(
    value: float,
    replicates: Array,
    confidence: float,
    low: float | None = None,
    high: float | None = None,
) -> tuple[float, float] | None:
    """The interval around `value`; None where too many draws have no value.

    Args:
        value: of the metric.
        replicates: of the metric, [replicates]; NaN: undefined.
        confidence: share of the replicates inside.
        low: least value that the metric can have.
        high: largest one.
    """
    known = replicates[np.isfinite(replicates)]
    if not np.isfinite(value) or len(known) < 0.9 * max(len(replicates), 1):
        return None
    tail = (1 - confidence) / 2
    first, middle, last = np.quantile(known, [tail, 0.5, 1 - tail])
    below, above = value + first - middle, value + last - middle
    if low is not None:
        below = max(below, low)
    if high is not None:
        above = min(above, high)
    return float(below), float(above)
