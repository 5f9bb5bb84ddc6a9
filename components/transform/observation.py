"""Columns of serialized rows that the analysis looks at: see `Observed`.

Texts that are counted as they are, most of all bytes, are taken out by Arrow.
All else goes through TensorFlow, as the function says that also serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from components.example_io.decode import decode
from components.example_io.native import OtherLayoutError
from components.example_io.tfrecord import Records
from models.config.training import Features
from models.preprocessing.preprocessing_fn import (
    Observed,
    by_vocabulary,
    observe,
)

_ARROW = {
    tf.string: pa.large_binary(),
    tf.int64: pa.int64(),
    tf.float32: pa.float32(),
}


class Observer:
    """Looks at batches of rows; compiled once for all files.

    Args:
        features: the config section.
        spec: of the rows' features.
    """

    def __init__(self, features: Features, spec: Mapping[str, Any]) -> None:
        self._features = features
        self._spec = dict(spec)
        self._tables = by_vocabulary(features)
        self._plain = {
            table: [f.name for f in group]
            for table, group in self._tables.items()
            if all(f.list is None for f in group)
        }
        texts = {name for group in self._plain.values() for name in group}
        self._rest = sorted(self._spec.keys() - texts)
        self._by_arrow = bool(self._rest) and all(
            isinstance(one, tf.io.VarLenFeature) and one.dtype in _ARROW
            for one in self._spec.values()
        )

    def __call__(self, records: Records) -> Observed:
        """Arrays of some rows, at least one."""
        if self._by_arrow:
            try:
                columns = decode(records, self._spec)
                return self._observed(columns, len(records))
            except OtherLayoutError:
                pass
        found = self._whole(tf.constant(records.to_list(), tf.string))
        return _arrays(found)

    def _observed(self, columns: Mapping[str, pa.Array], rows: int) -> Observed:
        for name, column in columns.items():
            if column.type.value_type != _ARROW[self._spec[name].dtype]:
                raise OtherLayoutError
        sparse = {
            name: _sparse(columns.get(name), self._spec[name].dtype, rows)
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
        return found._replace(texts=texts)

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
        if np.diff(column.offsets.to_numpy()).max(initial=0) > 1:
            raise OtherLayoutError
    if not some:
        return pa.array([], pa.binary())
    return pa.chunked_array([c.values for c in some]).cast(pa.binary())


def _sparse(
    column: pa.LargeListArray | None, dtype: tf.DType, rows: int
) -> tf.SparseTensor:
    """Lists as `tf.io.parse_example` gives them."""
    if column is None:
        return tf.sparse.from_dense(tf.zeros([rows, 0], dtype))
    offsets = column.offsets.to_numpy()
    counts = np.diff(offsets)
    row = np.repeat(np.arange(rows), counts)
    place = np.arange(len(row)) - offsets[:-1][row]
    return tf.SparseTensor(
        np.stack([row, place], axis=1),
        tf.constant(column.values.to_numpy(zero_copy_only=False), dtype),
        [rows, int(counts.max())],
    )
