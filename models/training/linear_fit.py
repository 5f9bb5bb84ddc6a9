"""Logistic regression on ids and numbers: weights at a penalty, by Newton.

The penalty is a Gaussian prior of each weight, so an id that was seen often
keeps its effect, and a rare one stays near 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_NEWTON, _CONJUGATE = 20, 40  # steps at most
_CLOSE = 3e-7  # that a step would bring, in nats a row


@dataclass(frozen=True)
class Rows:
    """Inputs of rows: `size` weights of ids, one of each number, the bias.

    single: [F, N], one id a feature, counted from the feature's `first` [F].
    lists: for each, the row, id and share of its values. numbers: [N, D].
    label, weight: [N].
    """

    single: Ints
    first: Sequence[int]
    lists: Sequence[tuple[Ints, Ints, Floats]]
    numbers: Floats
    label: Floats
    weight: Floats
    size: int

    def part(self, taken: npt.NDArray[np.bool_]) -> Rows:
        """The rows where `taken` [N] holds."""
        place = np.cumsum(taken) - 1
        lists = [
            (place[of[taken[of]]], ids[taken[of]], shares[taken[of]])
            for of, ids, shares in self.lists
        ]
        return replace(
            self,
            single=self.single[:, taken],
            lists=lists,
            numbers=self.numbers[taken],
            label=self.label[taken],
            weight=self.weight[taken],
        )

    def logits(self, weights: Floats) -> Floats:
        """Logits [N] of weights [size + D + 1]."""
        ids, numbers = weights[: self.size], weights[self.size : -1]
        found: Floats = self.numbers @ numbers + weights[-1]
        for start, column in zip(self.first, self.single, strict=True):
            found += ids[start:].take(column)
        for rows, values, shares in self.lists:
            found += np.bincount(rows, shares * ids[values], len(found))
        return found

    def sums(self, values: Floats, power: int = 1) -> Floats:
        """Sums over the rows of `values` [N] times inputs to a power."""
        ids = np.zeros(self.size)
        for start, column in zip(self.first, self.single, strict=True):
            of_column = np.bincount(column, values)
            ids[start : start + len(of_column)] += of_column
        for rows, those, shares in self.lists:
            ids += np.bincount(those, values[rows] * shares**power, self.size)
        numbers = values @ (self.numbers if power == 1 else self.numbers**power)
        return np.concatenate([ids, numbers, [values.sum()]])

    def losses(self, logits: Floats) -> Floats:
        """Logloss of each row, [N]."""
        found: Floats = np.logaddexp(0, logits) - self.label * logits
        return found

    def logloss(self, logits: Floats) -> float:
        """Sum of the rows' losses, by weight."""
        return float(self.weight @ self.losses(logits))


def nearest(
    rows: Rows, scale: Floats, penalty: float, weights: Floats
) -> Floats:
    """The weights that are best under `penalty`, beginning at `weights`."""
    return _minimum(rows, penalty * scale, weights)


def path(
    rows: Rows, scale: Floats, penalties: Sequence[float]
) -> Iterator[tuple[float, Floats]]:
    """Each penalty with the weights that are best under it.

    The objective is the sum of the losses + penalty / 2 · Σ scale · w².

    Args:
        rows: that train.
        scale: [size + D + 1]; 0 for the bias.
        penalties: best strongest first, as one's weights begin the next.
    """
    weights = np.zeros(len(scale))
    rate = (rows.weight @ rows.label) / rows.weight.sum()
    weights[-1] = np.log(rate / (1 - rate))
    for penalty in penalties:
        weights = _minimum(rows, penalty * scale, weights)
        yield penalty, weights


def _minimum(rows: Rows, decay: Floats, weights: Floats) -> Floats:
    """Newton's method; each step by conjugate gradients."""

    def objective(at: Floats) -> float:
        return rows.logloss(rows.logits(at)) + float(decay @ at**2) / 2

    before = objective(weights)
    for _ in range(_NEWTON):
        chance = 1 / (1 + np.exp(-rows.logits(weights)))
        gradient = rows.sums(rows.weight * (chance - rows.label))
        gradient += decay * weights
        curvature = rows.weight * chance * (1 - chance)
        diagonal = rows.sums(curvature, 2) + decay + 1e-12
        if (gradient**2 / diagonal).sum() / 2 < _CLOSE * len(rows.label):
            break
        step = _step(rows, curvature, decay, diagonal, gradient)
        share = 1.0
        while (now := objective(weights + share * step)) > before:
            share /= 2
            if share < 1e-4:
                return weights
        weights, before = weights + share * step, now
    return weights


def _step(
    rows: Rows,
    curvature: Floats,
    decay: Floats,
    diagonal: Floats,
    gradient: Floats,
) -> Floats:
    """About -H⁻¹ · gradient, preconditioned by the diagonal of H."""
    step, left = np.zeros(len(gradient)), -gradient
    scaled = left / diagonal
    direction, size = scaled, left @ scaled
    enough = 0.05 * size
    for _ in range(_CONJUGATE):
        if size <= enough:
            break
        product = rows.sums(curvature * rows.logits(direction))
        product += decay * direction
        share = size / (direction @ product)
        step += share * direction
        left = left - share * product
        scaled = left / diagonal
        size, last = left @ scaled, size
        direction = scaled + size / last * direction
    return step
