"""Drift and skew: TFDV's verdict on two data sets, feature by feature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import (
    anomalies_pb2,
    path_pb2,
    schema_pb2,
    statistics_pb2,
)

from components.data_checks import DriftConfig
from components.example_validator.sequence_shares import (
    length_of,
    of_sequences,
)
from components.example_validator.shares import GONE, NEW, Shares, shares

_BYTES = statistics_pb2.FeatureNameStatistics.STRING
_FLOAT = statistics_pb2.FeatureNameStatistics.FLOAT
_STANDARD = statistics_pb2.Histogram.HistogramType.STANDARD
_REASON = anomalies_pb2.AnomalyInfo
_MEASURES = {False: "infinity norm", True: "Jensen-Shannon divergence"}


@dataclass(frozen=True)
class Comparison:
    """Differences that TFDV finds between two data sets.

    against: "the pushed model's data", or a split of this run.
    features: name -> {"measure", "distance", "threshold", "moved": as of
        `Shares.moved`}; the threshold is at least what chance gives.
    only: {"base": features that are there only, "now": here only, "types":
        with another type, "uncounted": sequences whose distinct lists
        StatisticsGen did not count}.
    drifted: names of the features beyond their thresholds, farthest first.
    anomalies: TFDV's own, for the features in `drifted`.
    """

    against: str
    features: dict[str, dict[str, Any]] = field(default_factory=dict)
    only: dict[str, list[str]] = field(default_factory=dict)
    drifted: list[str] = field(default_factory=list)
    anomalies: Any = None

    def to_json(self) -> dict[str, Any]:
        """All of it but the protos."""
        return {
            "against": self.against,
            "features": self.features,
            "only": self.only,
            "drifted": self.drifted,
        }


def compare(
    now: statistics_pb2.DatasetFeatureStatisticsList,
    base: statistics_pb2.DatasetFeatureStatisticsList,
    against: str,
    config: DriftConfig,
    schema: schema_pb2.Schema,
    features: list[str],
    skew: bool = False,
    sequences: Mapping[str, str] | None = None,
) -> Comparison:
    """Compares the features of two data sets.

    Args:
        now: statistics of the train split.
        base: of what it is compared with.
        against: what that is, for people.
        config: thresholds; what it does not name may have one in `schema`.
        schema: of the data.
        features: that are compared.
        skew: whether to measure skew between splits, and no drift in time.
        sequences: column of a sequence, or beside it -> that of the sequence,
            whose lengths are compared too.
    """
    ours, theirs = _by_name(now), _by_name(base)
    both = [name for name in features if name in ours and name in theirs]
    lists = sequences or {}
    found = {n: shares(theirs[n], ours[n]) for n in both if n not in lists}
    of_lists, uncounted = of_sequences(
        {n: (theirs[n], ours[n]) for n in both if n in lists}, lists
    )
    found |= of_lists
    lengths = {length_of(name): name for name in lists}
    only = {
        "base": sorted(theirs.keys() & set(features) - ours.keys()),
        "now": sorted(ours.keys() & set(features) - theirs.keys()),
        "types": [name for name, item in found.items() if item is None],
    }
    if uncounted:
        only["uncounted"] = uncounted
    curated = _curated(schema, "skew" if skew else "drift")
    thresholds = {}
    for name, item in found.items():
        if item is None:
            continue
        wanted = curated.get(name)
        if name in lengths:
            # A threshold of its own is that of its items; null is of both.
            of_items = config.threshold(lengths[name], True)
            wanted = None if of_items is None else config.numeric
        elif wanted is None or name in config.features:
            wanted = config.threshold(name, item.numeric)
        if wanted is not None:
            thresholds[name] = max(wanted, item.noise())
    compared = {n: s for n, s in found.items() if n in thresholds and s}
    anomalies = _validated(compared, thresholds, skew)
    measured = {}
    for info in anomalies.drift_skew_info:
        (name,) = info.path.step
        for one in (*info.drift_measurements, *info.skew_measurements):
            measured[name] = {
                "measure": _MEASURES[compared[name].numeric],
                "distance": max(one.value, 0.0),
                "threshold": one.threshold,
                "moved": _moved(compared[name], skew),
            }
    drifted = sorted(
        anomalies.anomaly_info.keys() & measured.keys(),
        key=lambda n: -measured[n]["distance"] / measured[n]["threshold"],
    )
    return Comparison(against, measured, only, drifted, anomalies)


def _moved(item: Shares, skew: bool) -> list[dict[str, Any]]:
    """Values that moved most: in time, or from train to the other split."""
    found = item.moved()
    if not skew:
        return found
    other = {NEW: GONE, GONE: NEW}
    return [
        {
            "value": other.get(one["value"], one["value"]),
            "before": one["after"],
            "after": one["before"],
        }
        for one in found
    ]


def _by_name(
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
) -> dict[str, Any]:
    return {
        feature.name or ".".join(feature.path.step): feature
        for dataset in statistics.datasets[:1]
        for feature in dataset.features
    }


def _curated(schema: schema_pb2.Schema, kind: str) -> dict[str, float]:
    """Thresholds that the schema names."""
    found = {}
    for feature in schema.feature:
        comparator = getattr(feature, f"{kind}_comparator")
        for norm in ("infinity_norm", "jensen_shannon_divergence"):
            if getattr(comparator, norm).HasField("threshold"):
                found[feature.name] = getattr(comparator, norm).threshold
    return found


def _validated(
    compared: Mapping[str, Shares],
    thresholds: Mapping[str, float],
    skew: bool,
) -> anomalies_pb2.Anomalies:
    """TFDV's comparison of the shares."""
    schema = schema_pb2.Schema()
    for name, item in compared.items():
        feature = schema.feature.add(name=name)
        feature.type = schema_pb2.FLOAT if item.numeric else schema_pb2.BYTES
        comparator = (
            feature.skew_comparator if skew else feature.drift_comparator
        )
        norm = (
            comparator.jensen_shannon_divergence
            if item.numeric
            else comparator.infinity_norm
        )
        norm.threshold = thresholds[name]
    if not compared:
        return anomalies_pb2.Anomalies()
    now, base = (_statistics(compared, side) for side in ("now", "base"))
    other = {"serving_statistics" if skew else "previous_statistics": base}
    found = tfdv.validate_statistics(now, schema, **other)
    # TFDV quotes a name with a space or a dot.
    for key, info in list(found.anomaly_info.items()):
        (name,) = info.path.step
        if key != name:
            found.anomaly_info[name].CopyFrom(info)
            del found.anomaly_info[key]
    return found


def _statistics(
    compared: Mapping[str, Shares], side: str
) -> statistics_pb2.DatasetFeatureStatisticsList:
    """One side's shares in the form in which TFDV compares."""
    statistics = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = statistics.datasets.add()
    for name, item in compared.items():
        counts = getattr(item, side)
        total = int(counts.sum())
        dataset.num_examples = max(dataset.num_examples, total)
        feature = dataset.features.add(path=path_pb2.Path(step=[name]))
        feature.type = _FLOAT if item.numeric else _BYTES
        stats = feature.num_stats if item.numeric else feature.string_stats
        stats.common_stats.num_non_missing = total
        stats.common_stats.tot_num_values = total
        stats.common_stats.min_num_values = 1
        stats.common_stats.max_num_values = 1
        if not item.numeric:
            for value, count in zip(item.names, counts, strict=True):
                feature.string_stats.rank_histogram.buckets.add(
                    label=value, sample_count=count
                )
            continue
        histogram = feature.num_stats.histograms.add(type=_STANDARD)
        for i, count in enumerate(counts):
            histogram.buckets.add(
                low_value=i, high_value=i + 1, sample_count=count
            )
    return statistics
