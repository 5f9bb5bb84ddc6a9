"""What plots of a model show: reliability, histogram of scores, ROC, PR."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from components.evaluator.bootstrap import interval
from components.evaluator.measured import Measured, Sample
from models.metrics import Array

_POINTS = 200  # of a curve
_CELLS = 40  # of a histogram
_EDGE = 1e-6  # probabilities nearer to 0 or 1 are shown there


def curves(
    measured: Measured,
    sample: Sample,
    predictions: npt.NDArray[np.float32],
    confidence: float,
) -> dict[str, Any]:
    """All plots' data of a model; see `evaluation` for its shape."""
    return {
        "reliability": _reliability(measured, confidence),
        "histogram": _histogram(sample, predictions),
        **_thresholds(measured, predictions),
    }


def _reliability(measured: Measured, confidence: float) -> list[dict[str, Any]]:
    bins, drawn = measured.bins
    found = []
    for number, (weight, label, prediction) in enumerate(bins.tolist()):
        if weight <= 0:
            continue
        bounds = None
        if drawn is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                rates = drawn[:, number, 1] / drawn[:, number, 0]
            bounds = interval(label / weight, rates, confidence, 0.0, 1.0)
        found.append(
            {
                "rows": weight,
                "prediction": prediction / weight,
                "label": label / weight,
                "interval": None if bounds is None else list(bounds),
            }
        )
    return found


def _histogram(
    sample: Sample, predictions: npt.NDArray[np.float32]
) -> dict[str, list[float]]:
    if not len(predictions):
        return {"edges": [], "negatives": [], "positives": []}
    p = np.clip(predictions.astype(np.float64), _EDGE, 1 - _EDGE)
    odds = np.log(p / (1 - p))
    low, high = float(odds.min()), float(odds.max())
    edges = np.linspace(low, high + (high == low), _CELLS + 1)
    counts = [
        np.histogram(odds, edges, weights=sample.weights * label)[0].tolist()
        for label in (1 - sample.labels, sample.labels)
    ]
    return {
        "edges": (1 / (1 + np.exp(-edges))).tolist(),
        "negatives": counts[0],
        "positives": counts[1],
    }


def _thresholds(
    measured: Measured, predictions: npt.NDArray[np.float32]
) -> dict[str, dict[str, list[float]]]:
    """ROC and PR at scores falling, thinned to `_POINTS`."""
    scores = measured.scores
    true = np.cumsum(scores.positives[::-1])
    false = np.cumsum(scores.negatives[::-1])
    if not len(true) or true[-1] <= 0 or false[-1] <= 0:
        return {
            "roc": {"fpr": [], "tpr": [], "threshold": []},
            "pr": {"recall": [], "precision": [], "threshold": []},
        }
    at = predictions[scores.order[scores.starts]][::-1].astype(np.float64)
    fpr, tpr = false / false[-1], true / true[-1]
    precision = true / (true + false)
    roc = _thin(fpr + tpr)
    pr = _thin(tpr)
    return {
        "roc": {
            "fpr": [0.0, *fpr[roc].tolist()],
            "tpr": [0.0, *tpr[roc].tolist()],
            "threshold": [1.0, *at[roc].tolist()],
        },
        "pr": {
            "recall": tpr[pr].tolist(),
            "precision": precision[pr].tolist(),
            "threshold": at[pr].tolist(),
        },
    }


def _thin(course: Array) -> npt.NDArray[np.int64]:
    """Where a rising course has about `_POINTS` equal steps, and its end."""
    wanted = np.linspace(course[0], course[-1], min(_POINTS, len(course)))
    found = np.searchsorted(course, wanted)
    return np.unique(np.r_[np.minimum(found, len(course) - 1), len(course) - 1])
