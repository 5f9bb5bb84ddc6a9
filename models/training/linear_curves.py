"""Curves of numbers in a linear start: pieces, if rows left out ask for them.

A curve is a sum of ramps, one between each two neighbouring quantiles of the
training rows (Gorishniy et al., arXiv 2203.05556).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.training.linear_fit import Floats, Rows, nearest

PIECES = 8
_PENALTIES = (3e3, 1e3, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)  # of the ramps
# Standard errors by which curves must be better: with 1, one log in twenty
# without bends had them by chance.
_ERRORS = 2.0
_CELLS = 1 << 26  # rows by ramps, at most: half a GiB


@dataclass(frozen=True)
class Ramps:
    """Where the ramps of each number rise: from `left`, over `width`.

    left, width: [D, PIECES]; width is above 0.
    bends: [D], where a number has more than two quantiles.
    """

    left: Floats
    width: Floats
    bends: Sequence[int]

    def shares(self, numbers: Floats) -> Floats:
        """Height of each ramp of `bends` at numbers [N, D], [N, B * PIECES]."""
        x = numbers[:, self.bends, None] - self.left[self.bends]
        shares = np.clip(x / self.width[self.bends], 0.0, 1.0)
        return shares.reshape(len(numbers), -1)

    def beside(self, rows: Rows) -> Rows:
        """The rows, with the ramps as further numbers."""
        numbers = np.concatenate([rows.numbers, self.shares(rows.numbers)], 1)
        return replace(rows, numbers=numbers)

    def heights(self, weights: Floats) -> Floats:
        """Weights of the ramps, [D, PIECES], from those of `bends`."""
        found = np.zeros(self.left.shape)
        found[self.bends] = weights.reshape(-1, PIECES)
        return found


@dataclass(frozen=True)
class Verdict:
    """Answer of the rows that were left out.

    penalty: of the ramps; None: no curves.
    with_curves, without: mean logloss. errors: standard errors between them.
    """

    penalty: float | None
    with_curves: float
    without: float
    errors: float

    @property
    def reason(self) -> str:
        """Words for the log."""
        return (
            f"rows left out: logloss {self.with_curves:.5f} with curves,"
            f" {self.without:.5f} without, {abs(self.errors):.1f} standard"
            f" errors {'better' if self.errors > 0 else 'worse'}"
        )


def ramps(numbers: Floats) -> Ramps | None:
    """Ramps between quantiles of numbers [N, D]; None: there are none.

    The lowest and the highest tenth have none. Where quantiles are equal, a
    ramp goes to the next greater number, so that it is a step.
    """
    shares = np.arange(1, PIECES + 2) / (PIECES + 2)
    if not numbers.shape[1]:
        return None
    ends = np.quantile(numbers, shares, axis=0, method="lower").T
    left, width = ends[:, :-1].copy(), np.diff(ends)
    for column, at in zip(*np.nonzero(width == 0), strict=True):
        values = numbers[:, column]
        above = values[values > left[column, at]]
        next_one = above.min() - left[column, at] if len(above) else 1.0
        width[column, at] = next_one
    bends = [i for i, x in enumerate(ends) if len(np.unique(x)) > 2]
    if not bends or len(bends) * PIECES * len(numbers) > _CELLS:
        return None
    return Ramps(left, width, bends)


def judge(
    pairs: Sequence[tuple[Rows, Rows, float]],
    scale: Floats,
    bends: int,
    penalty: float,
    weights: Floats,
    asked: bool = False,
) -> tuple[Verdict, Floats]:
    """Tries curves, and fits those that rows which are left out find best.

    Args:
        pairs: rows that train, rows that judge, addend of the latter's logits;
            of each the last `bends` * PIECES numbers are ramps.
        scale: of the penalties, ramps included.
        bends: numbers that may have a curve.
        penalty: of ids and numbers.
        weights: best under it, for the first of `pairs`, without ramps.
        asked: whether curves come even if they are no better.

    Returns:
        The verdict, and the weights of the first of `pairs` by the best curves.
    """
    count = bends * PIECES
    straight = np.concatenate([scale[: -count - 1], scale[-1:]])
    every = [
        _widened(
            nearest(_without(rows, count), straight, penalty, weights), count
        )
        for rows, _, _ in pairs
    ]

    def losses() -> Floats:
        return np.concatenate(
            [
                one.weight * one.losses(one.logits(fitted) + shift)
                for fitted, (_, one, shift) in zip(every, pairs, strict=True)
            ]
        )

    before = losses()
    size = sum(float(one.weight.sum()) for _, one, _ in pairs)
    best = Verdict(None, math.inf, float(before.sum()) / size, 0.0)
    kept = every[0]
    for one in _PENALTIES:
        every = [
            nearest(rows, steeper(scale, bends, one / penalty), penalty, fitted)
            for fitted, (rows, _, _) in zip(every, pairs, strict=True)
        ]
        less = before - losses()
        mean = best.without - float(less.sum()) / size
        if mean >= best.with_curves:
            break
        deviation = float(less.std()) * math.sqrt(len(less))
        errors = float(less.sum()) / max(deviation, 1e-12)
        best, kept = replace(
            best, penalty=one, with_curves=mean, errors=errors
        ), every[0]  # fmt: skip
    if best.errors < _ERRORS and not asked:
        best = replace(best, penalty=None)
    return best, kept


def steeper(scale: Floats, bends: int, times: float) -> Floats:
    """`scale`, with that of the ramps so many times."""
    found = scale.copy()
    found[-bends * PIECES - 1 : -1] *= times
    return found


def _without(rows: Rows, count: int) -> Rows:
    return replace(
        rows, numbers=rows.numbers[:, : rows.numbers.shape[1] - count]
    )


def _widened(weights: Floats, count: int) -> Floats:
    return np.concatenate([weights[:-1], np.zeros(count), weights[-1:]])
