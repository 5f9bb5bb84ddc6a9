"""A sequence in two data sets: shares of its items and of its lengths.

Items of a sequence are no independent draws: rows of one user hold the same
ones. So it counts as often as lists differ, which is what was observed, and
not as often as it has rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tensorflow_metadata.proto.v0 import statistics_pb2

from components.data_checks import DISTINCT_LISTS, custom
from components.example_validator.shares import Shares, shares


def length_of(sequence: str) -> str:
    """Name of the lengths of a sequence, for people."""
    return f"{sequence} (length)"


def of_sequences(
    pairs: Mapping[str, tuple[Any, Any]], sequences: Mapping[str, str]
) -> tuple[dict[str, Shares | None], list[str]]:
    """Shares of items and lengths, and columns that cannot be compared.

    StatisticsGen did not count the distinct lists of these.

    Args:
        pairs: column -> FeatureNameStatistics of base and now.
        sequences: column -> that of the sequence, if only beside one.
    """
    found: dict[str, Shares | None] = {}
    uncounted = []
    for name, pair in pairs.items():
        lists = pairs.get(sequences[name])
        if lists is None or not all(map(_is_counted, lists)):
            uncounted.append(name)
            continue
        base, now = map(_weight, lists)
        if all(map(_values, pair)):
            found[name] = _items(*pair, (base, now))
        if sequences[name] == name:
            lengths = shares(*map(_lengths, pair))
            found[length_of(name)] = _scaled(lengths, (base, now))
    return found, uncounted


def _is_counted(feature: Any) -> bool:
    known = custom(feature, DISTINCT_LISTS) is not None
    return known or not _values(feature)


def _weight(feature: Any) -> float:
    """Independent observations an item, and a list, of a sequence.

    A user's list grows item by item, so that a list of n items comes with up
    to n - 1 shorter ones: the number of users is about that of the distinct
    lists, divided by their mean length.
    """
    distinct = custom(feature, DISTINCT_LISTS) or 0.0
    return min(1.0, distinct / max(_values(feature), 1)) or 1.0


def _items(base: Any, now: Any, weights: tuple[float, float]) -> Shares | None:
    """Shares of the items; an empty list is a length, and no item."""
    found = shares(base, now, weights)
    if found is None:
        return None
    found = replace(
        found, names=found.names[:-1], base=found.base[:-1], now=found.now[:-1]
    )
    return _scaled(found, weights) if found.numeric else found


def _scaled(
    found: Shares | None, weights: tuple[float, float]
) -> Shares | None:
    if found is None:
        return None
    base, now = weights
    return replace(found, base=found.base * base, now=found.now * now)


def _lengths(feature: Any) -> Any:
    """Statistics of a number: how many values each row has."""
    common = getattr(feature, feature.WhichOneof("stats")).common_stats
    found = statistics_pb2.FeatureNameStatistics()
    histogram = found.num_stats.histograms.add()
    histogram.CopyFrom(common.num_values_histogram)
    histogram.type = statistics_pb2.Histogram.HistogramType.QUANTILES
    counted = found.num_stats.common_stats
    counted.num_missing = common.num_missing
    counted.num_non_missing = common.num_non_missing
    counted.tot_num_values = common.num_non_missing
    counted.max_num_values = 1
    return found


def _values(feature: Any) -> int:
    stats = getattr(feature, feature.WhichOneof("stats"))
    return int(stats.common_stats.tot_num_values)
