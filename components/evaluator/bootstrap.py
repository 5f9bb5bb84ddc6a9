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

from models.training.metrics import Array

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


def draws(replicates: int) -> Array:
    """Poisson(1) counts, [UNITS, replicates]."""
    rng = np.random.default_rng(_SEED)
    return rng.poisson(1.0, (UNITS, replicates)).astype(np.float64)


def intervals(
    values: Array, replicates: Array, confidence: float
) -> npt.NDArray[np.float64]:
    """The interval around each value, [M, 2].

    NaN where the value is undefined, or more than a tenth of its replicates.

    Args:
        values: of metrics, [M].
        replicates: of each, [M, R]; NaN: undefined.
        confidence: share of the replicates inside.
    """
    drawn = np.where(np.isfinite(replicates), replicates, np.nan)
    drawn.sort(axis=1)  # NaN comes last
    known = np.isfinite(drawn).sum(1)
    tail = (1 - confidence) / 2
    first, middle, last = (
        _quantile(drawn, known, share) for share in (tail, 0.5, 1 - tail)
    )
    found = np.stack([values + first - middle, values + last - middle], 1)
    lacking = (known < 0.9 * drawn.shape[1]) | ~np.isfinite(values)
    found[lacking] = np.nan
    return found


def _quantile(
    rising: Array, known: npt.NDArray[np.int64], share: float
) -> Array:
    """Quantiles of the first `known` of each row, with linear interpolation."""
    at = np.maximum(known - 1, 0) * share
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(known - 1, 0))
    rows = np.arange(len(rising))
    part = at - low
    return np.asarray(
        rising[rows, low] * (1 - part) + rising[rows, high] * part
    )
