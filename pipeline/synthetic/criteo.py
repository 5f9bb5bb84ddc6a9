"""Rows shaped as Criteo's, and their click probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.synthetic.draw import Floats, Ints, Mask, effects_of, mixed

# Criteo: mean and deviation of log(1 + I), and how often I is missing; the
# ids of each C in Criteo's public data, and how often it is missing.
_NUMBERS = (
    (0.8, 1.0, 0.45),
    (2.1, 2.1, 0.0),
    (2.2, 1.3, 0.2),
    (1.7, 1.0, 0.2),
    (7.2, 2.9, 0.05),
    (3.6, 1.8, 0.25),
    (1.5, 1.4, 0.05),
    (2.1, 1.2, 0.001),
    (3.6, 1.7, 0.05),
    (0.4, 0.4, 0.45),
    (0.9, 0.7, 0.05),
    (0.3, 0.6, 0.77),
    (1.9, 1.1, 0.2),
)
# fmt: off
_SIZES = (
    1460, 583, 10_131_227, 2_202_608, 305, 24, 12_517, 633, 3, 93_145, 5683,
    8_351_593, 3194, 27, 14_992, 5_461_306, 10, 5652, 2173, 4, 7_046_547, 18,
    15, 286_181, 105, 142_572,
)
_HIDDEN = (
    0, 0, 0.04, 0.04, 0, 0.13, 0, 0, 0, 0, 0, 0.04, 0, 0, 0, 0.04, 0, 0, 0.45,
    0.45, 0.04, 0.8, 0, 0.04, 0.45, 0.45,
)
# fmt: on
_KNOWN = 2000


class Criteo:
    """Rows shaped as Criteo's: 13 integers and 26 hashed categories."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._key = rng.integers(0, 2**63, len(_SIZES), np.uint64)
        self._tilt = rng.normal(0, 0.15, len(_NUMBERS))
        self._effect = []
        share = []
        for size in _SIZES:
            # Ids that are too rare to be learnt have no effect.
            rank = np.arange(1.0, min(size, _KNOWN) + 1)
            share.append(np.log1p(1 / rank) / np.log1p(size))
            effect = effects_of(rng, share[-1], 0.25)
            self._effect.append(np.append(effect, np.zeros(2)))
        self._crosses = [
            (
                one,
                other,
                effects_of(rng, np.outer(share[one], share[other]), 0.3),
            )
            for one, other in ((5, 13), (8, 16), (13, 22))
        ]
        digits = "".join(f"{number:04x}" for number in range(1 << 16))
        self._hex = np.frombuffer(digits.encode(), np.uint32)

    def draw(
        self, rng: np.random.Generator, time: Ints
    ) -> tuple[dict[str, Any], Floats]:
        """Returns the columns and the logit of one row for each `time`."""
        size = len(time)
        logit: Floats = np.full(size, -1.35)
        columns: dict[str, Any] = {}
        for i, (mean, spread, missing) in enumerate(_NUMBERS):
            log = rng.standard_normal(size)
            value = np.rint(np.expm1(np.minimum(mean + spread * log, 16.0)))
            if i != 1:  # I2 alone can be negative.
                value = np.maximum(value, 0.0)
            hidden = rng.random(size) < missing
            effect = self._tilt[i] * (log**2 - 1 if i % 4 == 1 else log)
            logit += np.where(hidden, 0.0, effect)
            columns[f"I{i + 1}"] = pa.array(value.astype(np.int64), mask=hidden)
        ranks = []
        for i, (items, missing) in enumerate(zip(_SIZES, _HIDDEN, strict=True)):
            # Log-uniform: Zipf's law with exponent 1.
            rank = np.exp(rng.random(size) * np.log1p(items)).astype(np.int64)
            rank = np.minimum(rank, items)
            hidden = rng.random(size, np.float32) < missing
            ranks.append(np.minimum(rank, len(self._effect[i]) - 1) - 1)
            ranks[-1][hidden] = -1
            logit += self._effect[i][ranks[-1]]
            columns[f"C{i + 1}"] = self._hashed(rank, hidden, self._key[i])
        for one, other, effect in self._crosses:
            logit += effect[ranks[one], ranks[other]]
        return columns, logit

    def _hashed(self, rank: Ints, hidden: Mask, key: np.uint64) -> Any:
        """Eight hexadecimal digits for each rank."""
        x = mixed(rank.astype(np.uint64), key)
        text = np.empty((len(x), 2), np.uint32)
        text[:, 0] = self._hex[x >> np.uint64(48)]
        text[:, 1] = self._hex[x >> np.uint64(32) & np.uint64(0xFFFF)]
        ends = 8 * np.arange(len(x) + 1, dtype=np.int32)
        valid = np.packbits(~hidden, bitorder="little")
        buffers = [pa.py_buffer(a) for a in (valid, ends, text)]
        return pa.Array.from_buffers(pa.string(), len(x), buffers)
