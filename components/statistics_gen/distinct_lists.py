"""Number of distinct lists in a column, from a sketch of fixed size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

_KEPT = 1 << 14  # hashes: more lists are estimated, within some 1 %
_PRIME = np.uint64(0x9E3779B97F4A7C15)
Hashes = npt.NDArray[np.uint64]


class DistinctLists:
    """How many lists differ, of those that have a value.

    Rows of one user repeat a list until it changes, so that their number says
    little of what was observed. The k least hashes tell the number: Bar-Yossef
    et al., "Counting distinct elements in a data stream" (2002).
    """

    def __init__(self) -> None:
        self._least: Hashes = np.empty(0, np.uint64)

    def add(self, rows: pa.Array) -> None:
        """Adds lists of texts or numbers, [N]."""
        self._keep(_hashes(rows))

    def merge(self, other: DistinctLists) -> None:
        """Adds the lists that another one has seen."""
        self._keep(other._least)

    def count(self) -> int:
        """Number of distinct lists."""
        if len(self._least) < _KEPT:
            return len(self._least)
        return round((_KEPT - 1) * 2.0**64 / float(self._least[-1]))

    def _keep(self, hashes: Hashes) -> None:
        if len(self._least) == _KEPT:
            hashes = hashes[hashes < self._least[-1]]
        self._least = np.union1d(self._least, hashes)[:_KEPT]


def _hashes(rows: pa.Array) -> Hashes:
    """A hash of each list with values, by its values and their order."""
    lengths = pc.fill_null(pc.list_value_length(rows), 0).to_numpy()
    lengths = lengths[lengths > 0].astype(np.int64)
    values = rows.flatten()
    if not len(values):
        return np.empty(0, np.uint64)
    coded = values.dictionary_encode()
    of_value = pd.util.hash_array(coded.dictionary.to_numpy(False))
    hashes = of_value[coded.indices.to_numpy()]
    starts = np.cumsum(lengths) - lengths
    place = np.arange(len(hashes)) - np.repeat(starts, lengths)
    with np.errstate(over="ignore"):
        power = np.multiply.accumulate(np.full(lengths.max(), _PRIME))
        sums = np.add.reduceat(_mixed(hashes * power[place]), starts)
        return _mixed(sums)


def _mixed(x: Hashes) -> Hashes:
    """Bits that all depend on all bits of `x` (splitmix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
