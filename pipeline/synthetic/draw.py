"""Random draws that the synthetic logs share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

DAY = 86_400
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
NONE: Ints = np.zeros(0, np.int64)


def lognormal(
    rng: np.random.Generator,
    size: int,
    median: float,
    sigma: float,
    limit: float = DAY,
) -> Ints:
    draw = median * np.exp(sigma * rng.standard_normal(size))
    return np.minimum(draw, limit).astype(np.int64)


def mixed(number: NDArray[np.uint64], key: Any) -> NDArray[np.uint64]:
    """Numbers that look random, the same for equal ones (splitmix64's)."""
    x = number * np.uint64(0x9E3779B97F4A7C15) + key
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found: NDArray[np.uint64] = (x ^ (x >> np.uint64(27))) * np.uint64(
        0x94D049BB133111EB
    )
    return found


def effects_of(
    rng: np.random.Generator, weight: Floats, spread: float
) -> Floats:
    """Normal draws, scaled to mean 0 and deviation `spread` by `weight`."""
    draw: Floats = rng.standard_normal(weight.shape)
    draw -= np.average(draw, weights=weight)
    draw *= spread / np.sqrt(np.average(draw**2, weights=weight))
    return draw


def drifted(effect: Floats, draw: Floats, share: float) -> Floats:
    """`effect` with a share of its variance that of `draw`."""
    moved: Floats = np.sqrt(1 - share) * effect + np.sqrt(share) * draw
    return moved


class Field:
    """A categorical column: how often each id comes, and its effect."""

    def __init__(
        self,
        rng: np.random.Generator,
        names: str | tuple[str, int],
        spread: float,
        skew: float = 1.0,
        missing: float = 0.0,
        group: str = "",
        of: Floats | None = None,
    ) -> None:
        """Ids by Zipf's law; or, with `group`, a group for each id `of` it.

        `names` are the ids, or a letter and how many to number.
        """
        self._spread = spread
        self._letter, self._last = "", 0
        if isinstance(names, str):
            ids = names.split()
        else:
            # Shuffled: a name must not tell how frequent it is.
            numbers = 1 + rng.permutation(names[1])
            self._letter, self._last = names
            ids = [f"{names[0]}{number}" for number in numbers]
        self.group = group
        self.member = NONE
        weight: Floats = np.arange(1.0, len(ids) + 1) ** -skew
        if of is not None:
            self.member = rng.permutation(len(of)) % len(ids)
            weight = np.bincount(self.member, of).astype(np.float64)
        self.weight = weight / weight.sum()
        self.names = pa.array(ids)
        self.missing = missing
        # The last one, index -1, is for a missing value.
        self.effect = np.append(effects_of(rng, self.weight, spread), 0.0)

    def drift(
        self, rng: np.random.Generator, share: float, renew: bool
    ) -> None:
        """A day passes: other effects, and new ids in place of some.

        Args:
            rng: of the day.
            share: part of the variance of the effects that is redrawn.
            renew: whether that share of the ids, numbered ones, is replaced.
        """
        draw = effects_of(rng, self.weight, self._spread)
        effect = drifted(self.effect[:-1], draw, share)
        if renew:
            new = rng.random(len(effect)) < share
            effect = np.where(new, draw, effect)
            numbers = self._last + np.cumsum(new)
            self._last = int(numbers[-1])
            ids = np.where(
                new,
                [f"{self._letter}{number}" for number in numbers],
                np.array(self.names.to_pylist()),
            )
            self.names = pa.array(ids.tolist())
        self.effect = np.append(effect, 0.0)

    def draw(self, rng: np.random.Generator, size: int) -> Ints:
        ends = np.cumsum(self.weight)[:-1]
        index: Ints = np.searchsorted(ends, rng.random(size), "right")
        return np.where(rng.random(size) < self.missing, -1, index)
