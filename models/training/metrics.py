"""Metrics of click probabilities against 0/1 labels, exact, in NumPy.

Each metric stands once: a function of sums over rows (`FROM_SUMS`), or of the
weights of negatives and positives at each score (`auc_of`, `pr_auc_of`). The
same functions give the value of a data set and, along a leading axis, those of
its bootstrap replicates. An undefined metric, such as the AUC of one class, is
NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
EPSILON = 1e-7  # probabilities are clipped to it in the logloss, as in Keras
BINS = 20  # of the expected calibration error


class WeightedRows(NamedTuple):
    """Labels 0/1, probabilities and weights of rows, each float64 [N]."""

    labels: Array
    probabilities: Array
    weights: Array


def rows(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
) -> WeightedRows:
    """Rows; without weights each counts 1."""
    y = np.asarray(labels, np.float64)
    p = np.asarray(probabilities, np.float64)
    if y.shape != p.shape or y.ndim != 1:
        raise ValueError(
            f"labels and probabilities must be vectors of one length."
            f" Received: {y.shape} and {p.shape}"
        )
    w = np.ones_like(y) if weights is None else np.asarray(weights, np.float64)
    if w.shape != y.shape:
        raise ValueError(f"weights must be {y.shape}. Received: {w.shape}")
    return WeightedRows(y, p, w)


# Functions of sums: what is summed, and the metrics.


def losses(labels: Array, probabilities: Array) -> Array:
    """Binary cross-entropy of each row, in nats."""
    p = np.clip(probabilities, EPSILON, 1 - EPSILON)
    return np.asarray(-np.log(np.where(labels > 0.5, p, 1 - p)))


def losses_of_logits(labels: Array, logits: Array) -> Array:
    """Binary cross-entropy of each row, stable for large logits."""
    z = logits
    return np.maximum(z, 0) - z * labels + np.log1p(np.exp(-np.abs(z)))


def terms(labels: Array, probabilities: Array) -> Array:
    """[N, 4]: label, probability, loss and squared error of each row."""
    return np.stack(
        [
            labels,
            probabilities,
            losses(labels, probabilities),
            np.square(probabilities - labels),
        ],
        axis=1,
    )


def sums(data: WeightedRows) -> Array:
    """[5]: the weights' sum, then those of the weighted `terms`."""
    return np.concatenate(
        [
            [data.weights.sum()],
            data.weights @ terms(data.labels, data.probabilities),
        ]
    )


def entropy(rate: Array) -> Array:
    """Entropy of a base rate, in nats: logloss of the best constant."""
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(r > 0, r * np.log(r), 0.0) for r in (rate, 1 - rate)]
    return np.asarray(0.0 - (parts[0] + parts[1]))  # no -0.0


def ratio(over: Array, under: Array) -> Array:
    """NaN where there is nothing to divide by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(under > 0, over / under, np.nan))


def _mean(column: int) -> Callable[[Array], Array]:
    return lambda s: ratio(s[..., column], s[..., 0])


FROM_SUMS: dict[str, Callable[[Array], Array]] = {
    "logloss": _mean(3),
    # logloss / entropy of the base rate; 1 is a constant's
    "normalized_entropy": lambda s: ratio(
        _mean(3)(s), entropy(ratio(s[..., 1], s[..., 0]))
    ),
    # mean prediction / mean label; 1 is right
    "calibration": lambda s: ratio(s[..., 2], s[..., 1]),
    "brier": _mean(4),
    "rmse": lambda s: np.sqrt(_mean(4)(s)),
}


def calibration_error_of(sums: Array) -> Array:
    """Expected calibration error of [..., 1 + bins] -> [...].

    Args:
        sums: of all weights, then, for each bin, of the weighted differences
            of probability and label.
    """
    return ratio(np.abs(sums[..., 1:]).sum(-1), sums[..., 0])


# Functions of the order of scores.


def auc_of(negatives: Array, positives: Array) -> Array:
    """Area under the ROC curve, [..., scores] -> [...].

    Args:
        negatives: weight of the negatives at each score, scores rising.
        positives: weight of the positives.
    """
    below = np.cumsum(negatives, -1) - 0.5 * negatives  # ties count half
    pairs = positives.sum(-1) * negatives.sum(-1)
    return ratio((positives * below).sum(-1), pairs)


def pr_auc_of(negatives: Array, positives: Array) -> Array:
    """Area under the precision-recall curve. Arguments as of `auc_of`.

    Between two scores true positives grow evenly with predicted ones (Davis and
    Goadrich, 2006), as in Keras and TFMA. Those take 10,000 thresholds; here
    every score is one. Scikit-learn's average precision takes steps instead: it
    is larger by about log(positives) / positives.
    """
    hits = positives[..., ::-1]
    more = hits + negatives[..., ::-1]
    predicted = np.cumsum(more, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(more > 0, hits / more, 0.0)
        start = np.cumsum(hits, -1) - slope * predicted
        before = predicted - more
        grown = np.where(before > 0, np.log(predicted / before), 0.0)
    return ratio((slope * (hits + start * grown)).sum(-1), hits.sum(-1))


class Scores(NamedTuple):
    """Rows by score.

    order: of the rows, scores rising; int64 [N].
    starts: where in `order` each distinct score begins; int64 [S].
    negatives, positives: their weights at each distinct score; [S].
    """

    order: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    negatives: Array
    positives: Array


def by_score(
    labels: Array, scores: npt.NDArray[np.floating], weights: Array
) -> Scores:
    """Rows sorted by score; equal scores are one."""
    order = np.argsort(scores)
    s = scores[order]
    starts = np.flatnonzero(np.r_[True, s[1:] != s[:-1]][: len(s)])
    w = weights[order]
    positive = w * (labels[order] > 0.5)
    if not len(s):
        return Scores(order, starts, np.zeros(0), np.zeros(0))
    return Scores(
        order,
        starts,
        np.add.reduceat(w - positive, starts),
        np.add.reduceat(positive, starts),
    )


def quantile_bins(
    found: Scores, weights: Array, bins: int = BINS
) -> npt.NDArray[np.int64]:
    """Number of the bin of each distinct score, int64 [S].

    The bins hold equal weight as far as equal scores, which stay together,
    allow.
    """
    weight = found.negatives + found.positives
    middle = np.cumsum(weight) - weight / 2
    total = weights.sum()
    if not total:
        return np.zeros(len(weight), np.int64)
    return np.minimum((middle * bins / total).astype(np.int64), bins - 1)


# Each metric of rows.


def auc(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
) -> float:
    """Area under the ROC curve, ties counted half; NaN for one class."""
    return _by_order(auc_of, rows(labels, scores, weights))


def pr_auc(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
) -> float:
    """Area under the precision-recall curve; NaN without a positive."""
    return _by_order(pr_auc_of, rows(labels, scores, weights))


def _by_order(of: Callable[[Array, Array], Array], data: WeightedRows) -> float:
    if np.isnan(data.probabilities).any():
        return float("nan")
    found = by_score(data.labels, data.probabilities, data.weights)
    return float(of(found.negatives, found.positives))


def from_sums(
    name: str,
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
) -> float:
    """The metric `name` of `FROM_SUMS`."""
    data = rows(labels, probabilities, weights)
    return float(FROM_SUMS[name](sums(data)))


def logloss(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
) -> float:
    """Mean binary cross-entropy in nats."""
    return from_sums("logloss", labels, probabilities, weights)


def logloss_of_logits(
    labels: npt.ArrayLike,
    logits: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
) -> float:
    """Mean binary cross-entropy in nats, stable for large logits."""
    data = rows(labels, logits, weights)
    if weights is None:
        return float(losses_of_logits(data.labels, data.probabilities).mean())
    found = losses_of_logits(data.labels, data.probabilities)
    return float(ratio((data.weights * found).sum(), data.weights.sum()))


def normalized_entropy(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
) -> float:
    """Logloss over the entropy of the base rate; 1 is a constant's."""
    return from_sums("normalized_entropy", labels, probabilities, weights)


def calibration(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
) -> float:
    """Mean prediction over mean label; 1 is right."""
    return from_sums("calibration", labels, probabilities, weights)


def expected_calibration_error(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    bins: int = BINS,
) -> float:
    """Mean of |mean prediction - mean label| over bins of equal weight."""
    data = rows(labels, probabilities, weights)
    if np.isnan(data.probabilities).any():
        return float("nan")
    found = by_score(data.labels, data.probabilities, data.weights)
    chosen = quantile_bins(found, data.weights, bins)
    lengths = np.diff(np.r_[found.starts, len(data.labels)])
    each = np.empty(len(data.labels), np.int64)
    each[found.order] = np.repeat(chosen, lengths)
    gaps = data.weights * (data.probabilities - data.labels)
    table = np.r_[data.weights.sum(), np.bincount(each, gaps, bins)]
    return float(calibration_error_of(table))


def of_rows(
    name: str,
    labels: Array,
    probabilities: Array,
    weights: Array | None = None,
) -> float:
    """The metric `name`, one that needs no groups."""
    others: dict[str, Callable[[Array, Array, Array | None], float]] = {
        "auc": auc,
        "pr_auc": pr_auc,
        "expected_calibration_error": expected_calibration_error,
    }
    if name in others:
        return others[name](labels, probabilities, weights)
    return from_sums(name, labels, probabilities, weights)


def sigmoid(logits: npt.ArrayLike) -> Array:
    """1 / (1 + exp(-x))."""
    z = np.asarray(logits, np.float64)
    return np.asarray(0.5 * (1 + np.tanh(z / 2)))
