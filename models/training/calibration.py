"""Fit of the calibration that an export applies, on rows held out of training.

Platt scaling: Platt, "Probabilistic outputs for support vector machines"
(1999). Isotonic regression by pool adjacent violators: Zadrozny and Elkan,
"Transforming classifier scores into accurate multiclass probability estimates"
(KDD 2002).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.layers.calibration import Calibration, Isotonic, Platt
from models.training.metrics import sigmoid

Floats = npt.NDArray[np.float64]
# Rows of the rarer label: with fewer, a fit costs a network that is calibrated
# already more than .001 of logloss.
ENOUGH = {"platt": 100, "isotonic": 1000}
_NEWTON = 50  # steps at most
_STEEPEST = 100.0  # slope; rows that one logit divides have none


class UnfitError(ValueError):
    """These rows fit no rising function; the message says why."""


@dataclass(frozen=True)
class Rows:
    """Labels, logits and weights of rows, [N]; ids of the segments, or None."""

    labels: Floats
    logits: Floats
    weights: Floats
    ids: npt.NDArray[np.int64] | None = None

    def __getitem__(self, chosen: npt.NDArray[Any]) -> Rows:
        return Rows(
            self.labels[chosen], self.logits[chosen], self.weights[chosen]
        )

    @property
    def rarer(self) -> int:
        """Rows of the rarer label."""
        positives = int(self.labels.sum())
        return min(positives, len(self.labels) - positives)


def platt(rows: Rows) -> tuple[float, float]:
    """Slope and intercept of greatest likelihood, by Newton's method.

    Raises:
        UnfitError: the slope would not be positive, or has no bound.
    """
    scale = float(rows.logits.std())
    if not scale:
        raise UnfitError("all logits are the same")
    centre = float(rows.logits.mean())
    z = (rows.logits - centre) / scale
    inputs = np.stack([z, np.ones_like(z)], 1)  # [N, 2]
    rate = np.average(rows.labels, weights=rows.weights)
    found = np.array([0.0, np.log(rate / (1 - rate))])

    def loss(at: Floats) -> float:
        logits = inputs @ at
        losses = np.logaddexp(0, logits) - rows.labels * logits
        return float(rows.weights @ losses)

    before = loss(found)
    for _ in range(_NEWTON):
        p = sigmoid(inputs @ found)
        gradient = inputs.T @ (rows.weights * (p - rows.labels))
        curved = rows.weights * p * (1 - p)
        step = np.linalg.solve(
            inputs.T @ (inputs * curved[:, None]) + 1e-12 * np.eye(2), gradient
        )
        share = 1.0
        while (now := loss(found - share * step)) > before and share > 1e-6:
            share /= 2
        found = found - share * step
        if abs(before - now) <= 1e-12 * abs(before):
            break
        before = now
    slope = float(found[0]) / scale
    if slope <= 0:
        raise UnfitError(
            f"the slope would be {slope:.3g}, which turns the ranking round"
        )
    if found[0] > _STEEPEST:
        raise UnfitError("the logits part clicks from the rest without error")
    return slope, float(found[1]) - slope * centre


def isotonic(rows: Rows) -> tuple[Floats, Floats]:
    """Knots of the rising function of least squared error, [K] each.

    It equals scikit-learn's IsotonicRegression, but at its ends: there a block
    without a click, or of clicks alone, has (clicks + 1/2) / (rows + 1), as
    far as it stays a rising function. A probability of 0 or 1 is a promise
    that no count of rows can keep.
    """
    x, first = np.unique(rows.logits, return_inverse=True)
    weight = np.bincount(first, rows.weights)
    clicks = np.bincount(first, rows.weights * rows.labels)
    counts = np.bincount(first)
    # Blocks: where they begin in x, weight, weight of clicks.
    begin: list[int] = []
    total: list[float] = []
    positive: list[float] = []
    for number in range(len(x)):
        begin.append(number)
        total.append(float(weight[number]))
        positive.append(float(clicks[number]))
        while (
            len(begin) > 1
            and positive[-2] * total[-1] >= positive[-1] * total[-2]
        ):
            begin.pop()
            total[-2:] = [total[-2] + total[-1]]
            positive[-2:] = [positive[-2] + positive[-1]]
    ends = np.array([*begin[1:], len(x)]) - 1
    mean = np.array(positive) / np.array(total)
    size = np.add.reduceat(counts, begin)
    if mean[0] == 0:
        mean[0] = min(0.5 / (size[0] + 1), *mean[1:2])
    if mean[-1] == 1:
        mean[-1] = max(1 - 0.5 / (size[-1] + 1), *mean[-2:-1])
    knots = np.stack([begin, ends], 1)  # of a block, which may have one value
    both = np.stack([np.ones(len(mean), bool), knots[:, 0] < knots[:, 1]], 1)
    return x[knots[both]], np.stack([mean, mean], 1)[both]


def centred(logits: Floats, others: Floats, weights: Floats | None) -> float:
    """The addend with which logits have the mean probability of others."""
    wanted = np.average(sigmoid(others), weights=weights)
    apart = others - logits
    low, high = float(apart.min()), float(apart.max())
    for _ in range(50):  # a mean rises with the addend: halve the bracket
        middle = (low + high) / 2
        mean = np.average(sigmoid(logits + middle), weights=weights)
        low, high = (middle, high) if mean < wanted else (low, middle)
    return (low + high) / 2


def fit(
    method: str, rows: Rows, column: int | None = None
) -> tuple[Calibration, list[dict[str, Any]]]:
    """The calibration of all rows, and of each id that has enough of them.

    Args:
        method: "platt" or "isotonic".
        rows: of the eval split.
        column: of the ids in the model's input; None: for all alike.

    Returns:
        The calibration; and a report of each function: `id` (None: of all
        rows, for those without another), `rows`, `positives`, its numbers.

    Raises:
        UnfitError: there are too few rows, or they fit none.
    """
    if rows.rarer < ENOUGH[method]:
        positives = int(rows.labels.sum())
        raise UnfitError(
            f"{len(rows.labels):,} rows with {positives:,} positives are too"
            f" few; {method} needs {ENOUGH[method]:,} of either label"
        )
    one, joined = _METHODS[method]
    functions, reports, ids = [one(rows)], [_report(None, rows)], []
    known, groups = np.zeros(0, np.int64), []
    if column is not None and rows.ids is not None:
        order = np.argsort(rows.ids, kind="stable")
        known, first = np.unique(rows.ids[order], return_index=True)
        groups = np.split(order, first[1:])
    for id, chosen in zip(known.tolist(), groups, strict=True):
        some = rows[chosen]
        if some.rarer < ENOUGH[method]:
            continue
        try:
            function = one(some)
        except UnfitError:
            continue
        ids.append(id)
        functions.insert(-1, function)
        reports.insert(-1, _report(id, some))
    for report, function in zip(reports, functions, strict=True):
        if method == "platt":
            report |= {"slope": function[0], "intercept": function[1]}
        else:
            report["knots"] = len(function[0])
    which = None if column is None else np.array(ids, np.int64)
    return Calibration(joined(functions), column, which), reports


def _report(id: int | None, rows: Rows) -> dict[str, Any]:
    return {
        "id": id,
        "rows": len(rows.labels),
        "positives": int(rows.labels.sum()),
    }


def _platts(functions: Sequence[tuple[float, float]]) -> Platt:
    slopes, intercepts = np.array(functions, np.float32).T
    return Platt(slopes, intercepts)


def _isotonics(functions: Sequence[tuple[Floats, Floats]]) -> Isotonic:
    width = max(len(x) for x, _ in functions)
    logits = np.full((len(functions), width), np.inf, np.float32)
    probabilities = np.zeros((len(functions), width), np.float32)
    for number, (x, y) in enumerate(functions):
        logits[number, : len(x)] = x
        probabilities[number, : len(y)] = y
        probabilities[number, len(y) :] = y[-1]
    return Isotonic(logits, probabilities)


_METHODS: dict[str, tuple[Callable[[Rows], Any], Callable[[Any], Any]]] = {
    "platt": (platt, _platts),
    "isotonic": (isotonic, _isotonics),
}
