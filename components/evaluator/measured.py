"""Metrics of one model on some rows, with their bootstrap replicates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from components.evaluator.bootstrap import MIN_UNITS, UNITS
from models.training.group_metrics import FROM_GROUPS, group_sums, left_out
from models.training.metrics import (
    BINS,
    FROM_SUMS,
    Array,
    Scores,
    auc_of,
    by_score,
    calibration_error_of,
    pr_auc_of,
    quantile_bins,
    terms,
)

_RANKS = 64  # bins of equal weight of positives, and as many of negatives
_CHUNK = 1 << 20  # rows
_FEW = 4096  # rows whose draws are added one by one
FROM_SCORES = {"auc": auc_of, "pr_auc": pr_auc_of}


@dataclass(frozen=True)
class Sample:
    """Rows that metrics are wanted of.

    labels: 0 or 1; float64 [N].
    units: of the bootstrap; [N].
    weights: float64 [N].
    groups: 0, 1, ... and -1 for none; [N], or None.
    """

    labels: Array
    units: npt.NDArray[np.int32]
    weights: Array
    groups: npt.NDArray[np.int64] | None = None

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> Sample:
        groups = self.groups
        return Sample(
            self.labels[rows],
            self.units[rows],
            self.weights[rows],
            None if groups is None else groups[rows],
        )


@dataclass(frozen=True)
class Measured:
    """Metrics of a model.

    values: metric -> value; NaN: undefined.
    replicates: metric -> [R] of them; {} where there are too few units.
    scores: the rows by score.
    left_out: share of the impressions that GAUC does not see.
    """

    values: dict[str, float]
    replicates: dict[str, Array]
    scores: Scores
    left_out: float | None = None


def measure(
    sample: Sample,
    predictions: npt.NDArray[np.float32],
    draws: Array | None,
    own: Mapping[str, Any],
    k: int,
) -> Measured:
    """All metrics.

    AUC and PR-AUC are exact; their replicates take scores together in at most
    2 · `_RANKS` bins, each with at most 1 / `_RANKS` of the positives and of
    the negatives.

    Args:
        sample: the rows.
        predictions: of the model for them, [N]; finite.
        draws: see `bootstrap.draws`; None: no replicates.
        own: name -> `SumMetric`.
        k: of NDCG and recall.
    """
    if draws is not None and _units(sample) < MIN_UNITS:
        draws = None
    scores = by_score(sample.labels, predictions, sample.weights)
    values = {
        name: float(function(scores.negatives, scores.positives))
        for name, function in FROM_SCORES.items()
    }
    replicates: dict[str, Array] = {}
    if draws is not None:
        replicates = _ranked(sample, scores, draws)

    tables = [
        _by_unit(sample, predictions, terms),
        _gaps(sample, predictions, scores),
    ]
    functions: list[Mapping[str, Any]] = [
        FROM_SUMS,
        {"expected_calibration_error": calibration_error_of},
    ]
    for name, metric in own.items():
        tables.append(_by_unit(sample, predictions, metric.terms))
        functions.append({name: metric.value})
    share = None
    if sample.groups is not None:
        tables.append(_of_groups(sample, predictions, k))
        functions.append(FROM_GROUPS)
        share = left_out(tables[-1].sum(0))
    drawn = None if draws is None else draw(tables, draws)
    for number, (table, some) in enumerate(zip(tables, functions, strict=True)):
        total = table.sum(0)
        for name, function in some.items():
            values[name] = float(function(total))
            if drawn is not None:
                replicates[name] = np.asarray(function(drawn[number]))
    return Measured(values, replicates, scores, share)


def draw(tables: Sequence[Array], draws: Array) -> list[Array]:
    """Sums [R, K] of each replicate, of tables [UNITS, K] of sums by unit."""
    together = np.concatenate(tables, axis=1)
    there = np.flatnonzero(together.any(axis=1))
    if 2 * len(there) < len(together):
        together, draws = together[there], draws[there]
    drawn = (together.T @ draws).T
    ends = np.cumsum([table.shape[1] for table in tables])[:-1]
    return list(np.split(drawn, ends, axis=1))


def by_quantile(
    sample: Sample, predictions: npt.NDArray[np.float32], scores: Scores
) -> Array:
    """Sums of weight, label and probability by unit and quantile of score.

    [UNITS, BINS, 3].
    """
    bins = of_rows(scores, quantile_bins(scores, sample.weights))
    return by_bin(sample, predictions, bins, BINS)


def by_bin(
    sample: Sample,
    predictions: npt.NDArray[np.float32],
    bins: npt.NDArray[np.int64],
    size: int,
) -> Array:
    """Sums of weight, label and probability by unit and bin.

    [UNITS, size, 3].
    """
    cells = sample.units.astype(np.int64) * size + bins
    summed = [
        np.bincount(cells, sample.weights * column, UNITS * size)
        for column in (np.ones(()), sample.labels, predictions)
    ]
    return np.stack(summed, 1).reshape(UNITS, size, 3).astype(np.float64)


def _units(sample: Sample) -> int:
    return int((np.bincount(sample.units, minlength=1) > 0).sum())


def _gaps(
    sample: Sample, predictions: npt.NDArray[np.float32], scores: Scores
) -> Array:
    """Terms of the calibration error, [UNITS, 1 + BINS]."""
    bins = of_rows(scores, quantile_bins(scores, sample.weights))
    gaps = sample.weights * (predictions - sample.labels)
    table = np.bincount(sample.units * BINS + bins, gaps, UNITS * BINS)
    weights = np.bincount(sample.units, sample.weights, UNITS)
    return np.concatenate([weights[:, None], table.reshape(UNITS, BINS)], 1)


def _by_unit(
    sample: Sample,
    predictions: npt.NDArray[np.float32],
    function: Callable[[Array, Array], Array],
) -> Array:
    """Sums of weights and of weighted terms, [UNITS, 1 + K]."""
    table = np.zeros((UNITS, 1))
    for first in range(0, max(len(predictions), 1), _CHUNK):
        part = slice(first, first + _CHUNK)
        weights = sample.weights[part]
        columns = function(
            sample.labels[part], predictions[part].astype(np.float64)
        )
        summed = [
            np.bincount(sample.units[part], weights * column, UNITS)
            for column in (np.ones(()), *columns.T)
        ]
        table = table + np.stack(summed, axis=1)
    return table


def _ranked(sample: Sample, scores: Scores, draws: Array) -> dict[str, Array]:
    """Replicates of the metrics that go by the order of the scores."""
    bins = of_rows(scores, _coarse(scores))
    size = int(bins.max()) + 1
    weights = [
        _drawn_bins(sample, bins, size, wanted, draws)
        for wanted in (sample.labels < 0.5, sample.labels > 0.5)
    ]
    return {name: function(*weights) for name, function in FROM_SCORES.items()}


def _drawn_bins(
    sample: Sample,
    bins: npt.NDArray[np.int64],
    size: int,
    wanted: npt.NDArray[np.bool_],
    draws: Array,
) -> Array:
    """Weight of the wanted rows in each bin, in each replicate; [R, size]."""
    rows = np.flatnonzero(wanted)
    if len(rows) > _FEW:
        cells = sample.units[rows] * size + bins[rows]
        table = np.bincount(cells, sample.weights[rows], UNITS * size)
        halves = [
            a.astype(np.float32) for a in (table.reshape(UNITS, size).T, draws)
        ]  # of the bytes: twice as fast, and counts stay whole
        drawn = (halves[0] @ halves[1]).astype(np.float64)
    else:
        rows = rows[np.argsort(bins[rows], kind="stable")]
        drawn = np.zeros((size, draws.shape[1]))
        if len(rows):
            each = draws[sample.units[rows]]
            each *= sample.weights[rows, None]
            there, starts = np.unique(bins[rows], return_index=True)
            drawn[there] = np.add.reduceat(each, starts, axis=0)
    return np.ascontiguousarray(drawn.T)


def _coarse(scores: Scores) -> npt.NDArray[np.int64]:
    """Bin of each distinct score; fine where positives or negatives are."""
    if len(scores.starts) <= 2 * _RANKS:
        return np.arange(len(scores.starts))
    bins = np.zeros(len(scores.starts), np.int64)
    for weight in (scores.negatives, scores.positives):
        total = weight.sum()
        if total > 0:
            below = (np.cumsum(weight) - weight) * _RANKS / total
            bins += np.minimum(below.astype(np.int64), _RANKS - 1)
    return bins


def of_rows(
    scores: Scores, values: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Values of rows, from those of distinct scores."""
    lengths = np.diff(np.r_[scores.starts, len(scores.order)])
    each = np.empty(len(scores.order), np.int64)
    each[scores.order] = np.repeat(values, lengths)
    return each


def _of_groups(
    sample: Sample, predictions: npt.NDArray[np.float32], k: int
) -> Array:
    """Sums of `group_sums` by unit; a group is in one."""
    assert sample.groups is not None
    rows = np.flatnonzero(sample.groups >= 0)
    _, first, groups = np.unique(
        sample.groups[rows], return_index=True, return_inverse=True
    )
    sums = group_sums(
        groups,
        sample.labels[rows],
        predictions[rows],
        sample.weights[rows],
        k,
    )
    at = sample.units[rows][first]
    return np.stack(
        [np.bincount(at, column, UNITS) for column in sums.T], axis=1
    )
