"""Logs of many shapes, whose true probabilities are known: for studies.

A log has ids by Zipf's law, numbers, and clicks whose logit adds up parts of
known deviation: effects of ids, of numbers, of pairs of ids, products of
hidden vectors of a user and an item. Rows are in order of time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """Properties of a log; deviations are those of a part of the logit.

    ids: values of each categorical feature. numbers: numeric features.
    additive, linear, curved: effects of ids, of numbers, of functions of
    numbers. pairs: effects of pairs of ids of neighbouring features. low_rank:
    products of vectors of the first two features. noise: share of features
    without effect. local: features whose ids come and go with time, so that
    most of the test rows' are new. drift: deviation by which effects of ids
    move from the first row to the last.
    """

    rows: int
    rate: float
    ids: tuple[int, ...] = ()
    numbers: int = 0
    additive: float = 0.0
    linear: float = 0.0
    curved: float = 0.0
    pairs: float = 0.0
    low_rank: float = 0.0
    noise: float = 0.0
    local: tuple[int, ...] = ()
    drift: float = 0.0
    zipf: float = 1.0


SHAPES = {
    "ids, additive": Shape(
        50_000, 0.2, (10, 50, 300, 2000, 20_000, 5, 100, 1000), additive=1.0
    ),
    "ids, rare clicks": Shape(
        100_000, 0.005, (20, 200, 3000, 100_000, 50), additive=1.2
    ),
    "few rows": Shape(
        10_000, 0.03, (10, 30, 200, 3000, 8), 4, additive=0.8, linear=0.4
    ),
    "numbers, linear": Shape(10_000, 0.25, (5, 20), 30, 0.3, linear=1.0),
    "numbers, curved": Shape(20_000, 0.1, (5, 20), 20, 0.3, 0.4, curved=1.0),
    "user x item": Shape(
        100_000, 0.5, (1000, 2000), additive=1.0, low_rank=0.7
    ),
    "user x item, new users": Shape(
        100_000, 0.55, (1000, 2000), additive=1.0, low_rank=0.7, local=(0,)
    ),
    "user x item, sparse": Shape(
        30_000, 0.3, (6000, 3000), additive=0.9, low_rank=0.5
    ),
    "pairs": Shape(
        100_000, 0.1, (20, 40, 60, 100, 200, 10), additive=0.6, pairs=0.8
    ),
    "noise": Shape(
        20_000, 0.05,
        (10, 100, 1000, 10_000) * 5, 20, 0.8, 0.5, noise=0.85,
    ),
    "drift": Shape(
        50_000, 0.03, (20, 300, 5000, 20_000), 3, 0.8, 0.3,
        local=(3,), drift=0.7,
    ),
    "mixed": Shape(
        30_000, 0.15, (5, 30, 200, 2000, 10_000), 8, 0.6, 0.4, 0.4, 0.4
    ),
    "mixed, large": Shape(
        300_000, 0.05, (5, 30, 200, 2000, 50_000, 100_000), 8,
        0.7, 0.4, 0.4, 0.4, 0.3,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Log:
    """A log: raw values, clicks, true probabilities.

    ids: int64 [N, F]. numbers: float64 [N, D]. label: float64 [N].
    """

    ids: Ints
    numbers: Floats
    label: Floats
    truth: Floats
    names: list[str] = field(default_factory=list)


def draw(shape: Shape, seed: int) -> Log:
    """Rows of a log of this shape, another world for each seed."""
    rng = np.random.default_rng([seed, shape.rows])
    rows, time = shape.rows, np.arange(shape.rows) / shape.rows
    ids: Ints = np.empty((rows, len(shape.ids)), np.int64)
    for f, size in enumerate(shape.ids):
        if f in shape.local:  # each id lives for a tenth of the time
            birth = rng.permutation(size) / size
            order = np.argsort(birth)
            place = time * 1.1 - 0.1 * rng.random(rows)
            near = np.searchsorted(birth[order], place).clip(0, size - 1)
            ids[:, f] = order[near]
        else:
            weight = np.arange(1.0, size + 1) ** -shape.zipf
            ids[:, f] = rng.choice(size, rows, p=weight / weight.sum())
    numbers = rng.standard_normal((rows, shape.numbers))
    numbers[:, ::2] = np.expm1(np.abs(numbers[:, ::2]) * 1.5)
    scaled = _scaled(np.log1p(np.abs(numbers)) * np.sign(numbers))

    def kept(count: int) -> list[int]:
        """Features with an effect."""
        share = max(1, round(count * (1 - shape.noise)))
        return list(rng.permutation(count)[:share]) if count else []

    telling = kept(len(shape.ids))
    logit = np.zeros(rows)
    parts = [np.zeros(rows)]
    for f in telling:
        effect = rng.standard_normal((2, shape.ids[f]))
        now = effect[0][ids[:, f]]
        if shape.drift:
            now = now + shape.drift * time * effect[1][ids[:, f]]
        parts.append(now)
    logit += shape.additive * _scaled(sum(parts))
    columns = kept(shape.numbers)
    if columns:
        slope = rng.standard_normal(len(columns))
        logit += shape.linear * _scaled(scaled[:, columns] @ slope)
        bent = np.zeros(rows)
        for c in columns:
            kind, x = rng.integers(3), scaled[:, c]
            bent += rng.standard_normal() * (
                x**2, np.sin(2 * x), np.abs(x - 0.5)
            )[kind]  # fmt: skip
        one, other = rng.permutation(columns * 2)[:2]
        bent += scaled[:, one] * scaled[:, other]
        logit += shape.curved * _scaled(bent)
    if shape.pairs:
        both = np.zeros(rows)
        for one, other in pairwise(telling):
            size = shape.ids[one] * shape.ids[other]
            key = ids[:, one] * shape.ids[other] + ids[:, other]
            both += rng.standard_normal(min(size, 1 << 22))[key % (1 << 22)]
        logit += shape.pairs * _scaled(both)
    if shape.low_rank:
        vectors = [rng.standard_normal((size, 4)) for size in shape.ids[:2]]
        product = (vectors[0][ids[:, 0]] * vectors[1][ids[:, 1]]).sum(1)
        logit += shape.low_rank * _scaled(product)
    logit += _intercept(logit, shape.rate)
    truth = 1 / (1 + np.exp(-logit))
    label = (rng.random(rows) < truth).astype(np.float64)
    return Log(ids, numbers, label, truth)


def _scaled(x: Any) -> Floats:
    x = np.asarray(x, np.float64)
    spread = x.std(0)
    found: Floats = (x - x.mean(0)) / np.where(spread > 0, spread, 1.0)
    return found


def _intercept(logit: Floats, rate: float) -> float:
    """Finds the bias with which the mean probability is `rate`."""
    low, high = -20.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        if (1 / (1 + np.exp(-logit - middle))).mean() < rate:
            low = middle
        else:
            high = middle
    return low
