"""Points of a model's plots: reliability, histogram of scores, ROC, PR."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from components.evaluator.bootstrap import MIN_UNITS, intervals
from components.evaluator.measured import Sample, by_bin, by_quantile, draw
from models.training.metrics import Array, Scores

_POINTS = 200  # of a curve
_CELLS = 40  # of a histogram
_WEEK = 168
_STEPS = (1, 2, 3, 6, 12, 24)  # hours of a span
_SPANS = 200
_EPOCH = datetime.datetime(1970, 1, 1)
_EDGE = 1e-6  # probabilities nearer to 0 or 1 are shown there


def curves(
    scores: Scores,
    sample: Sample,
    predictions: npt.NDArray[np.float32],
    draws: Array,
    confidence: float,
) -> dict[str, Any]:
    """All plots' data of a model; see `evaluation` for its shape."""
    return {
        "reliability": _reliability(
            by_quantile(sample, predictions, scores), draws, confidence
        ),
        "histogram": _histogram(sample, predictions),
        **_thresholds(scores, predictions),
    }


def hours(
    sample: Sample,
    predictions: npt.NDArray[np.float32],
    times: npt.NDArray[np.int32],
    draws: Array,
    confidence: float,
) -> dict[str, Any]:
    """Click rate and calibration in the course of time.

    By hour, or by as many hours as leave at most `_SPANS` spans.

    Args:
        sample: the rows. predictions: for them.
        times: hours since 1970, [N].
        draws: see `bootstrap.draws`.
        confidence: of the intervals.
    """
    if not len(times):
        return {"hours": 1, "spans": []}
    length = int(times.max()) - int(times.min()) + 1
    weeks = _WEEK * -(-length // (_WEEK * (_SPANS - 1)))
    step = next((s for s in _STEPS if length / s < _SPANS - 1), weeks)
    starts, bins = np.unique(times // step, return_inverse=True)
    table = by_bin(sample, predictions, bins, len(starts))
    sums = table.sum(0)
    weight, label, said = draw(list(np.moveaxis(table, 2, 0)), draws)
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = intervals(
            sums[:, 1] / sums[:, 0], (label / weight).T, confidence
        )
        values = sums[:, 2] / sums[:, 1]
        ratios = intervals(values, (said / label).T, confidence)
    rows = np.bincount(bins)
    clicks = np.bincount(bins, sample.labels)
    _widen(rates, sums[:, 1] / sums[:, 0], table, confidence)
    rates[rows < MIN_UNITS] = ratios[rows < MIN_UNITS] = np.nan
    return {
        "hours": step,
        "spans": [
            {
                "start": _iso(int(start) * step),
                "rows": int(rows[i]),
                "positives": int(clicks[i]),
                "prediction": float(sums[i, 2] / sums[i, 0]),
                "label": float(sums[i, 1] / sums[i, 0]),
                "interval": _ends(np.clip(rates[i], 0, 1)),
                "calibration": float(values[i]) if clicks[i] else None,
                "calibration_interval": _ends(np.maximum(ratios[i], 0)),
            }
            for i, start in enumerate(starts)
        ],
    }


def _iso(hour: int) -> str:
    moment = _EPOCH + datetime.timedelta(hours=hour)
    return f"{moment:%Y-%m-%dT%H:%MZ}"


def _ends(bounds: Array) -> list[float] | None:
    ends: list[float] = bounds.tolist()
    return None if np.isnan(bounds).any() else ends


def _widen(
    bounds: Array, rates: Array, table: Array, confidence: float
) -> None:
    """Gives a bin of one class the bound of Clopper and Pearson, in place.

    All replicates of such a bin are equal, as if its rate were certain.

    Args:
        bounds: ends of the intervals, [M, 2].
        rates: of clicks, [M].
        table: sums by unit and bin, [UNITS, M, 3].
        confidence: of the intervals.
    """
    units = np.maximum((table[..., 0] > 0).sum(0), 1)
    width = 1 - ((1 - confidence) / 2) ** (1 / units)
    none, all_ = rates <= 0, rates >= 1
    bounds[none] = np.stack([np.zeros(none.sum()), width[none]], 1)
    bounds[all_] = np.stack([1 - width[all_], np.ones(all_.sum())], 1)


def _reliability(
    bins: Array, draws: Array, confidence: float
) -> list[dict[str, Any]]:
    """Reliability of each quantile of the prediction; see `by_quantile`."""
    total = bins.sum(0)
    weight, label, drawn = (
        *draw([bins[..., 0], bins[..., 1]], draws),
        total[total[:, 0] > 0],
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = (label / weight).T[total[:, 0] > 0]
    said, rate = drawn[:, 2] / drawn[:, 0], drawn[:, 1] / drawn[:, 0]
    bounds = np.clip(intervals(rate, rates, confidence), 0, 1)
    _widen(bounds, rate, bins[:, total[:, 0] > 0], confidence)
    return [
        {
            "rows": float(drawn[number, 0]),
            "prediction": float(said[number]),
            "label": float(rate[number]),
            "interval": _ends(bounds[number]),
        }
        for number in range(len(drawn))
    ]


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
    scores: Scores, predictions: npt.NDArray[np.float32]
) -> dict[str, dict[str, list[float]]]:
    """ROC and PR at scores falling, thinned to `_POINTS`."""
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
