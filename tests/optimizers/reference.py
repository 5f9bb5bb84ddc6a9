"""Lion in NumPy, written from the formula: the judge of every kernel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DTYPES = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
FLOAT16 = np.dtype(np.float16)


def noise(seed: int, step: Any, elements: Array) -> Array:
    """32 random bits an element: a hash of two rounds, modulo 2^32."""

    def odd(factor: int, number: Any) -> Array:
        return (np.asarray(number, np.uint64) * factor) % 2**32

    x = odd(0x85EBCA6B, elements + odd(0x9E3779B9, seed % 2**32))
    x = odd(0x7FEB352D, x ^ x >> 16 ^ odd(0xC2B2AE35, step))
    x = odd(0x846CA68B, x ^ x >> 15)
    return np.asarray(x ^ x >> 16)


def at_random(x: Array, kind: np.dtype[Any], chance: Array) -> Array:
    """`x` rounded away from 0 where its rest exceeds 1 - `chance`, in [0, 1).

    The rest is what truncation loses, in units of the last place.
    """
    wide = np.float64(np.abs(x))
    digits = 7 if kind == DTYPES["bfloat16"] else 10
    least = -133 if kind == DTYPES["bfloat16"] else -24
    with np.errstate(all="ignore"):
        exponent = np.floor(np.log2(wide)) - digits
        unit = 2.0 ** np.maximum(np.nan_to_num(exponent, neginf=least), least)
        rounded = np.sign(x) * np.floor(wide / unit + chance) * unit
        return np.asarray(np.where(np.isfinite(x), rounded, x).astype(kind))


def rule(
    theta: Array,
    m: Array,
    g: Array,
    lr: Any,
    beta_1: Any,
    beta_2: Any,
    weight_decay: Any,
    cautious_axes: tuple[int, ...] | None,
) -> tuple[Array, Array]:
    """One step: c, then θ, then m; all in the dtype of the arguments."""
    c = beta_1 * m + (1 - beta_1) * g
    update = np.sign(c)
    if cautious_axes is not None:
        kept = (update * np.sign(g) > 0).astype(c.dtype)
        share = kept.mean(axis=cautious_axes, keepdims=True)
        update = update * kept / np.maximum(share, c.dtype.type(1e-3))
    return (
        theta - lr * (update + weight_decay * theta),
        beta_2 * m + (1 - beta_2) * g,
    )


@dataclass
class ReferenceLion:
    """Steps one variable; a gradient is an array, or (values, indices)."""

    theta: Array
    lr: float
    beta_1: float = 0.9
    beta_2: float = 0.99
    weight_decay: float = 0.0
    sparse: str = "lazy"
    cautious: bool = False
    momentum_dtype: str | None = None
    stochastic_rounding: bool = False
    frequency_power: float = 0.0
    seed: int = 0
    step_count: int = 0
    m: Array = field(init=False)
    last_step: Array = field(init=False)
    seen: Array = field(init=False)

    def __post_init__(self) -> None:
        stored = DTYPES[self.momentum_dtype or self.theta.dtype.name]
        self.m = np.zeros(self.theta.shape, stored)
        self.last_step = np.zeros(self.theta.shape[:1], np.int64)
        self.seen = np.zeros(self.theta.shape[:1], np.int64)
        wide = self.theta.dtype == np.float64
        self.compute = np.dtype(np.float64 if wide else np.float32)

    def step(self, gradient: Array | tuple[Array, Array]) -> None:
        """Applies one gradient; (values, indices) may repeat an index."""
        self.step_count += 1
        if isinstance(gradient, tuple):
            values, indices = gradient
            total = np.zeros(self.theta.shape, self.compute)
            np.add.at(total, indices, values.astype(self.compute))
            rows = np.unique(indices)
        else:
            total = gradient.astype(self.compute)
            rows = np.arange(self.theta.shape[0])
        if self.sparse == "dense":
            rows = np.arange(self.theta.shape[0])
        by_row = isinstance(gradient, tuple) and self.sparse != "dense"
        first = 1 if by_row else 0
        axes = tuple(range(first, self.theta.ndim)) if self.cautious else None
        number = self.compute.type
        m = self.m[rows].astype(self.compute)
        if self.sparse == "decayed":
            skipped = self.step_count - self.last_step[rows] - 1
            decay = number(self.beta_2) ** skipped.astype(self.compute)
            m = m * decay.reshape(-1, *[1] * (m.ndim - 1))
            self.last_step[rows] = self.step_count
        # Keras keeps the learning rate in a float32 variable.
        rate: Any = number(np.float32(self.lr))
        if by_row:
            self.seen[rows] += 1
            count = self.seen[rows].astype(self.compute)
            factor = count ** -number(self.frequency_power)
            rate = rate * factor.reshape(-1, *[1] * (m.ndim - 1))
        theta, m = rule(
            self.theta[rows].astype(self.compute),
            m,
            total[rows],
            rate,
            number(self.beta_1),
            number(self.beta_2),
            number(self.weight_decay),
            axes,
        )
        width = int(np.prod(self.theta.shape[1:], dtype=int))
        numbers = np.arange(self.theta.size).reshape(-1, width)[rows]
        bits = noise(self.seed, self.step_count, numbers.reshape(theta.shape))
        chance = (bits >> 16) / 2**16, (bits % 2**16) / 2**16
        if self.stochastic_rounding and self.theta.dtype.itemsize == 2:
            theta = at_random(theta, self.theta.dtype, chance[0])
        if self.m.dtype == DTYPES["bfloat16"]:
            m = at_random(m, self.m.dtype, chance[1])
        self.theta[rows] = theta.astype(self.theta.dtype)
        self.m[rows] = m.astype(self.m.dtype)
