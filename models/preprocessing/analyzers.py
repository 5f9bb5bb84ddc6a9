"""Analyzers of the training rows, for Transform, in one pass.

Each part looks at one thing and does as TFT's analyzer of it. What it found in
one file is saved as a table; the tables of all files are merged one by one, and
the result is written as a file. Rounding depends on the order of merging.
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Collection, Sequence
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
from apache_beam.io.filesystems import FileSystems
from tfx_bsl import sketches

from models.config.training import Features
from models.preprocessing import vocabulary
from models.preprocessing.input_layout import LABEL_COUNTS, asset_name
from models.preprocessing.numeric import at_quantiles, ranged
from models.preprocessing.preprocessing_fn import (
    EPSILON,
    Analysis,
    Observed,
    by_vocabulary,
    vocabularies,
)
from models.preprocessing.sightings import Sightings, TimedValues
from models.preprocessing.transform_assets import size_of

NUMBERS = "numbers"  # folder beside Transform's graph, of means and bounds
_MOMENTS = "moments.npy"
_RANGE = "range.npy"
_MERGE_AT = 1 << 18  # rows of counts kept before they are merged
_MAX_ROWS = 1 << 32  # a sketch's bound holds up to here

Array = npt.NDArray[Any]


class Part(Protocol):
    """Analysis of one quantity."""

    schema: pa.Schema

    def add(self, values: Any) -> None:
        """Takes the values of a batch."""

    def save(self) -> pa.Table:
        """All that was found so far, of `schema`."""

    def merge(self, saved: pa.Table) -> None:
        """Takes what another has saved."""

    def write(self, folder: str) -> None:
        """Leaves the result as a file."""


class Counts:
    """How often each value occurs: a vocabulary, or the label's counts.

    Holds each distinct value about twice, however many rows there are.
    """

    schema = vocabulary.SCHEMA

    def __init__(
        self, wanted: vocabulary.Vocabulary, labels: bool = False
    ) -> None:
        self._wanted = wanted
        self._labels = labels
        self._merged = vocabulary.merge([])
        self._new: list[pa.Table] = []
        self._new_rows = 0

    def add(self, values: Array | pa.Array) -> None:
        """[N] bytes, or int64 labels."""
        self.merge(vocabulary.count(values))

    def save(self) -> pa.Table:
        """A row for each value."""
        self._join()
        return self._merged

    def merge(self, saved: pa.Table) -> None:
        """Adds the counts."""
        self._new.append(saved)
        self._new_rows += saved.num_rows
        # As much again each time, so that no row is merged often.
        if self._new_rows > max(_MERGE_AT, self._merged.num_rows):
            self._join()

    def write(self, folder: str) -> None:
        """A line a value."""
        vocabulary.write(self.save(), self._wanted, folder, self._labels)

    def _join(self) -> None:
        if self._new:
            self._merged = vocabulary.merge([self._merged, *self._new])
            self._new, self._new_rows = [], 0


class Moments:
    """Mean and variance of the columns of a matrix.

    The sums are those of Chan, Golub and LeVeque, "Algorithms for computing
    the sample variance", 1983.
    """

    schema = pa.schema(
        {
            "rows": pa.int64(),
            "mean": pa.list_(pa.float64()),
            "squares": pa.list_(pa.float64()),
        }
    )

    def __init__(self) -> None:
        self._state: tuple[int, Array, Array] = 0, np.zeros(1), np.zeros(1)

    def add(self, values: Array) -> None:
        """Take vectors, [N, D]."""
        wide = values.astype(np.float64)
        mean = wide.mean(axis=0) if len(wide) else wide.sum(axis=0)
        squares = np.square(wide - mean).sum(axis=0)
        self._state = _joined(self._state, (len(wide), mean, squares))

    def save(self) -> pa.Table:
        """One row."""
        return pa.table([[value] for value in self._state], schema=self.schema)

    def merge(self, saved: pa.Table) -> None:
        """Other rows."""
        rows, mean, squares = (column[0] for column in saved.columns)
        other = rows.as_py(), np.array(mean.as_py()), np.array(squares.as_py())
        self._state = _joined(self._state, other)

    def write(self, folder: str) -> None:
        """float32 [2, D]: means, variances."""
        rows, mean, squares = self._state
        _save(os.path.join(folder, _MOMENTS), [mean, squares / max(rows, 1)])


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


class Range:
    """Lowest and highest values of the columns of a matrix."""

    schema = pa.schema(
        {"low": pa.list_(pa.float32()), "high": pa.list_(pa.float32())}
    )

    def __init__(self) -> None:
        self._ends: Array = np.zeros((0, 1), np.float32)  # [0 or 2, D]

    def add(self, values: Array) -> None:
        """Take vectors, [N, D]."""
        if len(values):
            self._join([values.min(axis=0), values.max(axis=0)])

    def save(self) -> pa.Table:
        """One row, or none where there were no vectors."""
        ends = [self._ends[at::2].tolist() for at in (0, 1)]
        return pa.table(ends, schema=self.schema)

    def merge(self, saved: pa.Table) -> None:
        """Other rows."""
        if saved.num_rows:
            self._join([column[0].as_py() for column in saved.columns])

    def write(self, folder: str) -> None:
        """float32 [2, D]: lowest, highest; zeros where there were none."""
        ends = self._ends if len(self._ends) else np.zeros((2, 1))
        _save(os.path.join(folder, _RANGE), list(ends))

    def _join(self, ends: Sequence[Array]) -> None:
        both = [*self._ends, *np.array(ends, np.float32)]
        self._ends = np.stack([np.min(both, axis=0), np.max(both, axis=0)])


class Quantiles:
    """Boundaries of buckets."""

    schema = pa.schema({"sketch": pa.binary()})

    def __init__(self, name: str, buckets: int) -> None:
        self._name = name
        self._buckets = buckets
        self._sketch = sketches.QuantilesSketch(EPSILON, _MAX_ROWS, 1)

    def add(self, values: Array) -> None:
        """Take values, float32 [N]."""
        self._sketch.AddValues(pa.array(values))

    def save(self) -> pa.Table:
        """One row, of the sketch as its library serializes it."""
        return pa.table([[self._sketch.__getstate__()]], schema=self.schema)

    def merge(self, saved: pa.Table) -> None:
        """Other rows."""
        other = sketches.QuantilesSketch.__new__(sketches.QuantilesSketch)
        other.__setstate__(saved["sketch"][0].as_py())
        self._sketch.Merge(other)

    def write(self, folder: str) -> None:
        """float32 [1, buckets - 1]; zeros where no row has a value."""
        found = self._sketch.GetQuantiles(self._buckets).to_pylist()
        boundaries = found[0][1:-1] if found else [0.0] * (self._buckets - 1)
        _save(os.path.join(folder, self._name), [boundaries])


def parts(features: Features, ledgers: str = "") -> list[Part]:
    """Empty ones; `ledgers` is the folder of those of the run before."""
    labels = vocabulary.Vocabulary(LABEL_COUNTS, 1, 2)
    return [
        Counts(labels, labels=True),
        *(
            Counts(wanted)
            if wanted.admission is None
            else Sightings(wanted, ledgers)
            for wanted in vocabularies(features)
        ),
        Moments(),
        *(
            Quantiles(_boundaries(index), f.cuts)
            for index, f in enumerate(at_quantiles(features))
        ),
        *([Range()] if ranged(features) else []),
    ]


def add(found: Sequence[Part], batch: Observed) -> None:
    """Adds a batch to all `parts`."""
    rows = iter(batch.rows)
    texts = (
        TimedValues(values, next(rows), batch.days, batch.times)
        if isinstance(part, Sightings)
        else values
        for part, values in zip(found[1:], batch.texts, strict=False)
    )
    columns = (batch.label, *texts, batch.dense, *batch.numbers)
    if isinstance(found[-1], Range):
        columns += (batch.dense,)
    for part, values in zip(found, columns, strict=True):
        part.add(values)


def read(features: Features, folder: str, texts: str = "") -> Analysis:
    """Results that all parts together left in `folder`.

    texts: another folder that has the vocabularies.
    """
    moments = _load(os.path.join(folder, _MOMENTS))
    low = high = None
    if ranged(features):
        low, high = _load(os.path.join(folder, _RANGE))
    return Analysis(
        {
            table: os.path.join(texts or folder, asset_name(group[0]))
            for table, group in by_vocabulary(features).items()
        },
        moments[0],
        moments[1],
        {
            f.name: _load(os.path.join(folder, _boundaries(index)))
            for index, f in enumerate(at_quantiles(features))
        },
        low,
        high,
    )


def kept(
    features: Features,
    transform: tft.TFTransformOutput,
    without: Collection[str] = (),
) -> Analysis | None:
    """Look-ups without Transform's graph, its files as tables.

    None if the graph is of another Transform, which keeps no numbers. The
    vocabularies of the tables in `without` stay paths.
    """
    graph = transform.transform_savedmodel_dir
    folder = os.path.join(graph.rstrip("/").rpartition("/")[0], NUMBERS)
    if not FileSystems.exists(os.path.join(folder, _MOMENTS)):
        return None
    found = read(features, folder, os.path.join(graph, "assets"))
    return with_tables(found, without)


def with_tables(found: Analysis, without: Collection[str] = ()) -> Analysis:
    """`found` with look-ups instead of files, but for tables in `without`."""
    tables = {
        table: path
        if table in without
        else tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                path,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            size_of(path),
        )
        for table, path in found.vocabularies.items()
    }
    return dataclasses.replace(found, vocabularies=tables)


def numbers(features: Features) -> list[str]:
    """Files of the results that are numbers."""
    count = len(at_quantiles(features))
    names = [_MOMENTS, *(_boundaries(index) for index in range(count))]
    return [*names, _RANGE] if ranged(features) else names


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
