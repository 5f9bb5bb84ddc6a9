"""What the transform must know of the training rows, in one pass over them.

Each part looks at one thing and does as TFT's analyzer of it. Parts of some
files are pickled, merged in any order, and their results written as files.
A part that was merged takes no more rows.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Iterable
from typing import Any, Protocol, Self, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from tfx_bsl import sketches

from models import vocabulary
from models.config import Features
from models.features import (
    EPSILON,
    Found,
    Observed,
    bucketed,
    by_vocabulary,
    vocabularies,
)
from models.layout import LABEL_COUNTS, asset_name

_MOMENTS = "moments.npy"
_MAX_ROWS = 1 << 32  # a sketch's bound holds up to here

Array = npt.NDArray[Any]


class Part(Protocol):
    """What is found out about one thing."""

    def add(self, values: Array) -> None:
        """Takes the values of a batch."""

    def merge(self, other: Self) -> None:
        """Takes what another has seen."""

    def write(self, folder: str) -> None:
        """Leaves the result as a file."""


class Counts:
    """How often each value occurs: a vocabulary, or the label's counts."""

    def __init__(
        self, wanted: vocabulary.Vocabulary, labels: bool = False
    ) -> None:
        self._wanted = wanted
        self._labels = labels
        self._tables: list[pa.Table] = []

    def add(self, values: Array) -> None:
        """[N] bytes, or int64 labels."""
        self._append([vocabulary.count(values)])

    def merge(self, other: Counts) -> None:
        """Adds the counts."""
        self._append(other._tables)

    def write(self, folder: str) -> None:
        """A line a value."""
        self._join()
        vocabulary.write(self._tables[0], self._wanted, folder, self._labels)

    def __getstate__(self) -> dict[str, Any]:
        self._join()
        return self.__dict__

    def _append(self, tables: list[pa.Table]) -> None:
        self._tables = self._tables + tables
        if len(self._tables) >= vocabulary.MERGE_AT:
            self._join()

    def _join(self) -> None:
        if len(self._tables) != 1:
            self._tables = [vocabulary.merge(self._tables)]


class Moments:
    """Mean and variance of the columns of a matrix.

    Those of each file are kept, and summed up in an order of their own, so
    that rounding does not depend on which were merged first. The sums are
    those of Chan, Golub and LeVeque, "Algorithms for computing the sample
    variance", 1983.
    """

    def __init__(self) -> None:
        self._states: list[tuple[int, Array, Array]] = []

    def add(self, values: Array) -> None:
        """[N, D]"""
        wide = values.astype(np.float64)
        mean = wide.mean(axis=0) if len(wide) else wide.sum(axis=0)
        new = len(wide), mean, np.square(wide - mean).sum(axis=0)
        for old in self._states:
            new = _joined(old, new)
        self._states = [new]

    def merge(self, other: Moments) -> None:
        """Other files."""
        self._states = self._states + other._states

    def write(self, folder: str) -> None:
        """float32 [2, D]: means, variances."""
        total: tuple[int, Array, Array] = 0, np.zeros(1), np.zeros(1)
        for state in sorted(self._states, key=_bytes):
            total = _joined(total, state)
        rows, mean, squares = total
        _save(os.path.join(folder, _MOMENTS), [mean, squares / max(rows, 1)])


def _bytes(state: tuple[int, Array, Array]) -> tuple[int, bytes, bytes]:
    rows, mean, squares = state
    return rows, mean.tobytes(), squares.tobytes()


def _joined(
    one: tuple[int, Array, Array], other: tuple[int, Array, Array]
) -> tuple[int, Array, Array]:
    (rows, mean, squares), (more, mean_2, squares_2) = one, other
    share = more / max(rows + more, 1)
    apart = mean_2 - mean
    return (
        rows + more,
        mean + apart * share,
        squares + squares_2 + np.square(apart) * rows * share,
    )


class Quantiles:
    """Boundaries of buckets; merged as `Moments`."""

    def __init__(self, name: str, buckets: int) -> None:
        self._name = name
        self._buckets = buckets
        self._sketches: list[Any] = []

    def add(self, values: Array) -> None:
        """float32 [N]"""
        self._sketches = self._sketches or [_sketch()]
        self._sketches[0].AddValues(pa.array(values))

    def merge(self, other: Quantiles) -> None:
        """Other files."""
        self._sketches = self._sketches + other._sketches

    def write(self, folder: str) -> None:
        """float32 [1, buckets - 1]; zeros where no row has a value."""
        total = _sketch()
        for sketch in sorted(self._sketches, key=pickle.dumps):
            total.Merge(sketch)
        found = total.GetQuantiles(self._buckets).to_pylist()
        boundaries = found[0][1:-1] if found else [0.0] * (self._buckets - 1)
        _save(os.path.join(folder, self._name), [boundaries])


def _sketch() -> Any:
    return sketches.QuantilesSketch(EPSILON, _MAX_ROWS, 1)


def parts(features: Features) -> list[Part]:
    """Empty ones."""
    labels = vocabulary.Vocabulary(LABEL_COUNTS, 1, 2)
    return [
        Counts(labels, labels=True),
        *(Counts(wanted) for wanted in vocabularies(features)),
        Moments(),
        *(
            Quantiles(_boundaries(index), f.buckets)
            for index, f in enumerate(bucketed(features))
        ),
    ]


def add(found: Iterable[Part], batch: Observed) -> None:
    """Adds a batch to all `parts`."""
    columns = (batch.label, *batch.texts, batch.dense, *batch.numbers)
    for part, values in zip(found, columns, strict=True):
        part.add(values)


def read(features: Features, folder: str) -> Found:
    """What all parts together left in `folder`."""
    moments = _load(os.path.join(folder, _MOMENTS))
    return Found(
        {
            table: os.path.join(folder, asset_name(group[0]))
            for table, group in by_vocabulary(features).items()
        },
        moments[0],
        moments[1],
        {
            f.name: _load(os.path.join(folder, _boundaries(index)))
            for index, f in enumerate(bucketed(features))
        },
    )


def _boundaries(index: int) -> str:
    return f"boundaries_{index}.npy"


def _save(path: str, rows: list[Any]) -> None:
    data = io.BytesIO()
    np.save(data, np.array(rows, np.float32))
    with FileSystems.create(path) as stream:
        stream.write(data.getvalue())


def _load(path: str) -> Array:
    with FileSystems.open(path) as stream:
        return cast(Array, np.load(io.BytesIO(stream.read())))
