"""Decoded columns of rows, and as TensorFlow's parser gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tensorflow as tf

from components.example_io.decode import decode
from components.example_io.native import OtherLayoutError
from components.example_io.tfrecord import Records

ROWS = 16_384  # of a batch
BYTES = 8 << 20  # read for one or more batches
_ARROW = {
    tf.string: pa.large_binary(),
    tf.int64: pa.int64(),
    tf.float32: pa.float32(),
}


def decodable(spec: Mapping[str, Any]) -> bool:
    """True if `columns` gives all that a parser of this spec would."""
    return all(
        isinstance(one, tf.io.VarLenFeature) and one.dtype in _ARROW
        for one in spec.values()
    )


def columns(
    records: Records, spec: Mapping[str, Any]
) -> dict[str, pa.LargeListArray]:
    """Features of `spec` that the records have, a list for each row.

    Raises:
        OtherLayoutError: a parser has to read them.
    """
    found = decode(records, spec)
    for name, column in found.items():
        if column.type.value_type != _ARROW[spec[name].dtype]:
            raise OtherLayoutError
    return found


def counts(column: pa.LargeListArray) -> npt.NDArray[np.int64]:
    """How many values each row has, none or one.

    Raises:
        OtherLayoutError: one has several.
    """
    found: npt.NDArray[np.int64] = np.diff(column.offsets.to_numpy())
    if found.max(initial=0) > 1:
        raise OtherLayoutError
    return found


def sparse(
    column: pa.LargeListArray | None, dtype: tf.DType, rows: int
) -> tf.SparseTensor:
    """Lists as `tf.io.parse_example` gives them."""
    if column is None:
        return tf.sparse.from_dense(tf.zeros([rows, 0], dtype))
    offsets = column.offsets.to_numpy()
    lengths = np.diff(offsets)
    row = np.repeat(np.arange(rows), lengths)
    place = np.arange(len(row)) - offsets[:-1][row]
    return tf.SparseTensor(
        np.stack([row, place], axis=1),
        tf.constant(column.values.to_numpy(zero_copy_only=False), dtype),
        [rows, int(lengths.max())],
    )
