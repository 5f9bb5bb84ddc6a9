"""Metrics of probabilities against 0/1 labels, exact, in NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Area under the ROC curve, ties counted half; NaN for one class."""
    y = np.asarray(labels, np.float64) > 0.5
    s = np.asarray(scores, np.float64)
    positives, negatives = int(y.sum()), int((~y).sum())
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(s, return_inverse=True, return_counts=True)
    # Mean rank of each group of equal scores, counted from 1.
    ranks = np.cumsum(counts) - (counts - 1) / 2
    above = ranks[inverse][y].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def logloss_of_logits(labels: npt.ArrayLike, logits: npt.ArrayLike) -> float:
    """Mean binary cross-entropy in nats, stable for large logits."""
    y = np.asarray(labels, np.float64)
    z = np.asarray(logits, np.float64)
    losses = np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))
    return float(losses.mean())


def sigmoid(logits: npt.ArrayLike) -> Array:
    """1 / (1 + exp(-x))."""
    z = np.asarray(logits, np.float64)
    return np.asarray(0.5 * (1 + np.tanh(z / 2)))


def calibration(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Mean prediction over mean label; 1 is right."""
    mean = float(np.mean(np.asarray(labels, np.float64)))
    if not mean:
        return float("nan")
    return float(np.mean(np.asarray(probabilities, np.float64))) / mean
