"""A feature in two data sets: how often each value, or range of numbers, came.

TFDV keeps the 1,000 commonest values of a text feature, and ten equally wide
ranges of a number, from the least to the greatest. Two samples with one heavy
tail differ in both. Rare values are therefore one value, and numbers are
counted between the deciles of the base. Missing is a value.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorflow_metadata.proto.v0 import statistics_pb2

from components.data_checks import missing

MISSING, NEW, GONE, OTHERS = "(missing)", "(new)", "(gone)", "(others)"
_SURE = 4.5  # standard errors: one in 300,000 by chance
_TWICE = 2.0  # observations: a value of fewer was seen once
_FEW = 20  # rows of a value; fewer are within `_SURE` of none
_NEAR = 10  # whole numbers nearer than this may each be in many rows
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shares:
    """Counts of the same values, or ranges, in two data sets.

    names: of the values; MISSING is the last.
    base, now: counts, float64 [K].
    numeric: whether they are ranges of numbers.
    """

    names: Sequence[str]
    base: Array
    now: Array
    numeric: bool

    @property
    def before(self) -> Array:
        """Share of each value in the base, [K]."""
        return self.base / max(self.base.sum(), 1.0)

    @property
    def after(self) -> Array:
        """Share of each value now, [K]."""
        return self.now / max(self.now.sum(), 1.0)

    def noise(self) -> float:
        """The distance that chance alone gives samples of these sizes.

        Of the infinity norm or, of numbers, the Jensen-Shannon divergence:
        that is chi-squared, with a degree of freedom less than ranges.
        """
        sizes = self.base.sum(), self.now.sum()
        if not all(sizes):
            return 1.0
        variance = sum(1 / size for size in sizes)
        pooled = (self.base + self.now) / sum(sizes)
        if not self.numeric:
            spread = float((pooled * (1 - pooled)).max())
            return min(1.0, _SURE * math.sqrt(spread * variance))
        freedom = max(int((pooled > 0).sum()) - 1, 1)
        part = 2 / (9 * freedom)
        limit = freedom * (1 - part + _SURE * math.sqrt(part)) ** 3
        return min(1.0, limit * variance / (8 * math.log(2)))

    def moved(self, most: int = 3) -> list[dict[str, Any]]:
        """The values whose shares moved most: value, before, after."""
        before, after = self.before, self.after
        order = np.argsort(-np.abs(after - before), kind="stable")[:most]
        return [
            {
                "value": self.names[i],
                "before": float(before[i]),
                "after": float(after[i]),
            }
            for i in order
            if before[i] != after[i]
        ]


def shares(
    base: Any, now: Any, weights: tuple[float, float] = (1.0, 1.0)
) -> Shares | None:
    """The shares of a feature in two FeatureNameStatistics.

    None: it has another type, or no rows; or it is a list of values in one
    alone, as of a version that took a list for a text.

    Args:
        base, now: statistics.
        weights: independent observations a value of a text, in each.
    """
    if _is_list(base) != _is_list(now):
        return None
    kinds = base.WhichOneof("stats"), now.WhichOneof("stats")
    if kinds == ("string_stats", "string_stats"):
        return _texts(_Texts(base, weights[0]), _Texts(now, weights[1]))
    if kinds == ("num_stats", "num_stats"):
        return _numbers(_Quantiles(base), _Quantiles(now))
    return None


def _is_list(feature: Any) -> bool:
    return bool(feature.string_stats.common_stats.max_num_values > 1)


class _Texts:
    """Counts of the commonest values, and what is known of the others.

    weight: independent observations a value.
    """

    def __init__(self, feature: Any, weight: float) -> None:
        stats = feature.string_stats
        self.counts = {
            bucket.label: weight * bucket.sample_count
            for bucket in stats.rank_histogram.buckets
        }
        self.total = weight * float(stats.common_stats.tot_num_values)
        self.missing = float(missing(feature))
        self.complete = len(self.counts) >= stats.unique
        self._least = min(self.counts.values(), default=0.0)

    def count(self, value: str, other: _Texts) -> float:
        """Rows of a value; of one not listed, as near the other as can be."""
        if value in self.counts or self.complete:
            return self.counts.get(value, 0.0)
        return min(self._least, other.share(value) * self.total)

    def share(self, value: str) -> float:
        """Share of all values; 0 of one not listed."""
        return self.counts.get(value, 0.0) / max(self.total, 1.0)

    def lacks(self, other: _Texts) -> list[str]:
        """Values of `other` that are not here, where that is no chance.

        A sample of this size lacks values, of about the share that values seen
        once have in it (Good and Turing).
        """
        absent = [value for value in other.counts if value not in self.counts]
        if not self.complete:
            return [v for v in absent if _is_common(v, self, other)]
        if not self.total or not other.total:
            return []
        share = sum(other.counts[value] for value in absent) / other.total
        once = sum(n for n in self.counts.values() if n < _TWICE) / self.total
        error = 0.5 * math.sqrt(1 / self.total + 1 / other.total)
        return absent if share > once + _SURE * error else []


def _is_common(value: str, one: _Texts, other: _Texts) -> bool:
    """True if as common a value has enough rows on the smaller side.

    Of others, chance decides which are listed there, and how often they came.
    """
    share = max(one.share(value), other.share(value))
    return share * min(one.total, other.total) >= _FEW


def _texts(base: _Texts, now: _Texts) -> Shares:
    new, gone = base.lacks(now), now.lacks(base)
    apart = {*new, *gone}
    names = [
        value
        for value in dict.fromkeys([*base.counts, *now.counts])
        if value not in apart and _is_common(value, base, now)
    ]
    counts = []
    for side, other in ((base, now), (now, base)):
        named = [side.count(value, other) for value in names]
        sets = [sum(side.count(v, other) for v in some) for some in (gone, new)]
        rest = max(0.0, side.total - sum(named) - sum(sets))
        counts.append(np.array([*named, rest, *sets, side.missing]))
    return Shares(
        [*names, OTHERS, GONE, NEW, MISSING], counts[0], counts[1], False
    )


class _Quantiles:
    """Distribution of a number, as far as TFDV's quantiles tell it."""

    def __init__(self, feature: Any) -> None:
        stats = feature.num_stats
        kind = statistics_pb2.Histogram.HistogramType.QUANTILES
        found = [h for h in stats.histograms if h.type == kind]
        buckets = found[0].buckets if found else []
        nan = float(found[0].num_nan) if found else 0.0
        counts = [bucket.sample_count for bucket in buckets]
        self.total = max(0.0, float(stats.common_stats.tot_num_values) - nan)
        self.missing = float(missing(feature)) + nan
        self.at = np.array(
            [b.low_value for b in buckets[:1]] + [b.high_value for b in buckets]
        )
        self._below = np.r_[0.0, np.cumsum(counts)] / max(sum(counts), 1.0)
        self._whole = bool((self.at == np.floor(self.at)).all())

    def below(self, value: float) -> tuple[float, float]:
        """Least and greatest share that the values up to this one may have.

        Between deciles a number is taken to be spread evenly, but for one that
        is the same in many rows: how many, only the next decile bounds.
        """
        at, below = self.at, self._below
        i = int(np.searchsorted(at, value, "right")) - 1
        if i < 0 or not self.total:
            return 0.0, 0.0
        if i + 1 >= len(at):
            return 1.0, 1.0
        low, high = float(below[i]), float(below[i + 1])
        gap = at[i + 1] - at[i]
        if (value == at[i - 1] and i > 0) or (self._whole and gap <= _NEAR):
            return low, high
        part = (value - at[i]) / gap
        share = low + (part if math.isfinite(part) else 0.0) * (high - low)
        return share, share


def _numbers(base: _Quantiles, now: _Quantiles) -> Shares:
    inner = base.at if base.total else now.at
    edges = np.unique(inner[1:-1][np.isfinite(inner[1:-1])])
    bounds = np.array(
        [[side.below(edge) for edge in edges] for side in (base, now)]
    ).reshape(2, len(edges), 2)
    # As near to each other as the bounds allow.
    least = bounds[..., 0].max(0, initial=0.0)
    below = np.minimum(np.maximum(bounds[..., 0], least), bounds[..., 1])
    below = np.maximum.accumulate(below, axis=1)
    counts = [
        np.r_[np.diff([0.0, *shares, 1.0]) * side.total, side.missing]
        for side, shares in zip((base, now), below, strict=True)
    ]
    ends = [f"{edge:.6g}" for edge in edges.tolist()]
    names = [f"to {ends[0]}"] if ends else ["any"]
    names += [f"{a} to {b}" for a, b in itertools.pairwise(ends)]
    names += [f"above {ends[-1]}"] if ends else []
    return Shares([*names, MISSING], counts[0], counts[1], numeric=True)
