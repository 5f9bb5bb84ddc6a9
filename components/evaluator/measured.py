"""Metrics of one model on some rows, with their bootstrap replicates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from components.evaluator.bootstrap import MIN_UNITS
from models.group_metrics import FROM_GROUPS, group_sums, left_out
from models.metrics import (
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

_RANKS = 512  # bins of equal weight of positives, and as many of negatives
_CHUNK = 1 << 20  # rows
_BLOCK = 100  # replicates
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
    bins: sums of weight, label and probability by quantile of the prediction,
        [BINS, 3], and those of each replicate [R, BINS, 3].
    left_out: share of the impressions that GAUC does not see.
    """

    values: dict[str, float]
    replicates: dict[str, Array]
    scores: Scores
    bins: tuple[Array, Array | None]
    left_out: float | None = None


def measure(
    sample: Sample,
    predictions: npt.NDArray[np.float32],
    draws: npt.NDArray[np.float32] | None,
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
    present, unit = _present(sample.units)
    number = len(present)
    counts = None
    if draws is not None and number >= MIN_UNITS:
        counts = draws[:, present]
    whole = None if counts is None else counts.astype(np.float64)
    values: dict[str, float] = {}
    replicates: dict[str, Array] = {}

    def note(functions: Mapping[str, Any], table: Array) -> Array | None:
        """Adds metrics that are functions of sums over [units, ...]."""
        total = table.sum(0)
        drawn = None if whole is None else np.tensordot(whole, table, 1)
        for name, function in functions.items():
            values[name] = float(function(total))
            if drawn is not None:
                replicates[name] = np.asarray(function(drawn))
        return drawn

    note(FROM_SUMS, _by_unit(sample, predictions, unit, number, terms))
    for name, metric in own.items():
        table = _by_unit(sample, predictions, unit, number, metric.terms)
        note({name: metric.value}, table)

    scores = by_score(sample.labels, predictions, sample.weights)
    for name, function in FROM_SCORES.items():
        values[name] = float(function(scores.negatives, scores.positives))
    if counts is not None:
        replicates |= _ranked(sample, scores, unit, counts)

    bins = _of_rows(scores, quantile_bins(scores, sample.weights))
    cells = unit * BINS + bins
    columns = (np.ones(()), sample.labels, predictions)
    summed = [
        np.bincount(cells, sample.weights * column, number * BINS)
        for column in columns
    ]
    binned = np.stack(summed, 1).reshape(number, BINS, 3).astype(np.float64)
    drawn = note({"expected_calibration_error": calibration_error_of}, binned)

    share = None
    if sample.groups is not None:
        groups = _of_groups(sample, predictions, unit, number, k)
        note(FROM_GROUPS, groups)
        share = left_out(groups.sum(0))
    return Measured(values, replicates, scores, (binned.sum(0), drawn), share)


def _present(
    units: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The units there are, and the number among them of each row's."""
    there = np.bincount(units, minlength=1) > 0
    return np.flatnonzero(there), (np.cumsum(there) - 1)[units]


def _by_unit(
    sample: Sample,
    predictions: npt.NDArray[np.float32],
    unit: npt.NDArray[np.int64],
    number: int,
    function: Callable[[Array, Array], Array],
) -> Array:
    """Sums of weights and of weighted terms, [units, 1 + K]."""
    table = np.zeros((number, 1))
    for first in range(0, max(len(unit), 1), _CHUNK):
        part = slice(first, first + _CHUNK)
        weights = sample.weights[part]
        columns = function(
            sample.labels[part], predictions[part].astype(np.float64)
        )
        summed = [
            np.bincount(unit[part], weights * column, number)
            for column in (np.ones(()), *columns.T)
        ]
        table = table + np.stack(summed, axis=1)
    return table


def _ranked(
    sample: Sample,
    scores: Scores,
    unit: npt.NDArray[np.int64],
    counts: npt.NDArray[np.float32],
) -> dict[str, Array]:
    """Replicates of the metrics that go by the order of the scores."""
    bins = _of_rows(scores, _coarse(scores))
    size, number = int(bins.max()) + 1, counts.shape[1]
    cells = unit * size + bins
    negative, positive = (
        counts
        @ np.bincount(cells, sample.weights * wanted, number * size)
        .reshape(number, size)
        .astype(np.float32)
        for wanted in (1 - sample.labels, sample.labels)
    )
    found: dict[str, list[Array]] = {name: [] for name in FROM_SCORES}
    for first in range(0, len(counts), _BLOCK):
        part = slice(first, first + _BLOCK)
        of = [a[part].astype(np.float64) for a in (negative, positive)]
        for name, function in FROM_SCORES.items():
            found[name].append(function(*of))
    return {name: np.concatenate(parts) for name, parts in found.items()}


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


def _of_rows(
    scores: Scores, bins: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """What each row has, from what each distinct score has."""
    lengths = np.diff(np.r_[scores.starts, len(scores.order)])
    each = np.empty(len(scores.order), np.int64)
    each[scores.order] = np.repeat(bins, lengths)
    return each


def _of_groups(
    sample: Sample,
    predictions: npt.NDArray[np.float32],
    unit: npt.NDArray[np.int64],
    number: int,
    k: int,
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
    at = unit[rows][first]
    return np.stack(
        [np.bincount(at, column, number) for column in sums.T], axis=1
    )
