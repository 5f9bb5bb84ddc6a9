"""Columns of serialized rows that the analysis looks at: see `Observed`.

Texts that are counted as they are, most of all bytes, are taken out by Arrow.
All else goes through TensorFlow, as the function says that also serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tensorflow as tf

from components.example_io.decode import times_of
from components.example_io.native import OtherLayoutError
from components.example_io.tfrecord import Records
from components.transform import columns as decoded
from models.config.training import Features
from models.preprocessing import time_zones
from models.preprocessing.preprocessing_fn import (
    Observed,
    by_vocabulary,
    observe,
)

Ints = npt.NDArray[np.int64]


class Observer:
    """Looks at batches of rows; compiled once for all files.

    Args:
        features: the config section.
        spec: of the rows' features.
        zone: of days, where vocabularies have `admission`; None: UTC.
    """

    def __init__(
        self,
        features: Features,
        spec: Mapping[str, Any],
        zone: str | None = None,
    ) -> None:
        self._features = features
        self._zone = zone
        self._admitted = features.admitted()
        self._spec = dict(spec)
        self._tables = by_vocabulary(features)
        self._plain = {
            table: [f.name for f in group]
            for table, group in self._tables.items()
            if all(f.list is None for f in group)
        }
        texts = {name for group in self._plain.values() for name in group}
        # Sequences use vocabularies of others.
        texts |= features.sequence_of().keys()
        self._rest = sorted(self._spec.keys() - texts)
        self._by_arrow = bool(self._rest) and decoded.decodable(self._spec)

    def __call__(self, records: Records) -> Observed:
        """Arrays of some rows, at least one.

        Raises:
            InputError: days are asked for, and a row carries no time.
        """
        found = self._columns(records)
        if not self._admitted:
            return found
        times = times_of(records)
        days = time_zones.days(times, self._zone).astype(np.int32)
        return found._replace(days=days, times=times)

    def _columns(self, records: Records) -> Observed:
        if self._by_arrow:
            try:
                columns = decoded.columns(records, self._spec)
                return self._observed(columns, len(records))
            except OtherLayoutError:
                pass
        found = self._whole(tf.constant(records.to_list(), tf.string))
        return _arrays(found)

    def _observed(self, columns: Mapping[str, pa.Array], rows: int) -> Observed:
        sparse = {
            name: decoded.sparse(
                columns.get(name), self._spec[name].dtype, rows
            )
            for name in self._rest
        }
        found = _arrays(self._others(sparse))
        others = iter(found.texts)
        texts = tuple(
            _values(columns, self._plain[table], rows)
            if table in self._plain
            else next(others)
            for table in self._tables
        )
        more = iter(found.rows)
        return found._replace(
            texts=texts,
            rows=tuple(
                _rows(columns, self._plain[table])
                if table in self._plain
                else next(more)
                for table in self._tables
                if table in self._admitted
            ),
        )

    @cached_property
    def _whole(self) -> Any:
        """Serialized rows -> all that is looked at."""

        def function(rows: tf.Tensor) -> Observed:
            parsed = tf.io.parse_example(rows, self._spec)
            return observe(parsed, self._features)

        signature = [tf.TensorSpec([None], tf.string)]
        return tf.function(
            function, input_signature=signature
        ).get_concrete_function()

    @cached_property
    def _others(self) -> Any:
        """Parsed rows -> what Arrow does not take out."""
        signature = {
            name: tf.SparseTensorSpec([None, None], self._spec[name].dtype)
            for name in self._rest
        }
        return tf.function(
            lambda rows: observe(rows, self._features, without=self._plain),
            input_signature=[signature],
        )


def _arrays(found: Any) -> Observed:
    arrays: Observed = tf.nest.map_structure(lambda one: one.numpy(), found)
    return arrays


def _values(
    columns: Mapping[str, pa.Array], names: list[str], rows: int
) -> pa.Array:
    """Texts of features, those of one behind those of another."""
    some = [columns[name] for name in names if name in columns]
    for column in some:
        decoded.counts(column)
    if not some:
        return pa.array([], pa.binary())
    return pa.chunked_array([c.values for c in some]).cast(pa.binary())


def _rows(columns: Mapping[str, pa.Array], names: list[str]) -> Ints:
    """The row of each of `_values`."""
    found = [
        np.flatnonzero(decoded.counts(columns[name]))
        for name in names
        if name in columns
    ]
    return np.concatenate([np.zeros(0, np.int64), *found])
