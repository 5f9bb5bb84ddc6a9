"""Rows of a table and scalars of a rule, for every kernel."""

from __future__ import annotations

import tensorflow as tf

from optimizers.ops import build
from optimizers.ops.library import in_xla, load, usable
from optimizers.ops.rounding import HALF, Scalar


def sum_rows(
    values: tf.Tensor, indices: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `(sums, rows)`: `values` [n, ...] summed per distinct index.

    For XLA, which wants static shapes, they have n rows too: what is left over
    is zero, of the row that is the index's least number, which every update
    skips.
    """
    if in_xla():
        return _sum_rows_static(values, indices)
    rows, segments = tf.unique(indices)
    return tf.math.unsorted_segment_sum(values, segments, tf.size(rows)), rows


def _sum_rows_static(
    values: tf.Tensor, indices: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    order = tf.argsort(indices, stable=True)
    ids = tf.gather(indices, order)
    new = tf.concat([tf.ones_like(ids[:1], tf.bool), ids[1:] != ids[:-1]], 0)
    segments = tf.cumsum(tf.cast(new, tf.int32)) - 1
    n = tf.size(indices)  # a constant to XLA, if not while it is traced
    # The least number where there is no segment.
    rows = tf.math.unsorted_segment_max(ids, segments, n)
    sums = tf.math.unsorted_segment_sum(tf.gather(values, order), segments, n)
    return sums, rows


def check_ids(indices: tf.Tensor, rows: int) -> tf.Tensor:
    """Returns `indices`, all in [0, rows), or fails with their name.

    A function that XLA compiles fails on a CPU, if the op library is there. A
    GPU or a TPU cannot: it leaves such rows out.
    """
    indices = tf.convert_to_tensor(indices)
    if in_xla():
        if build.find()[0] is None or not usable():
            return indices
        return load().ops.lion_check_ids(indices=indices, rows=rows)
    wrong = (indices < 0) | (indices >= rows)
    message = f"`indices` must be in [0, {rows}), the rows of `var`. Received:"
    some = tf.boolean_mask(indices, wrong)[:1]
    with tf.control_dependencies(
        [tf.debugging.Assert(~tf.reduce_any(wrong), [message, some])]
    ):
        return tf.identity(indices)


def compute_dtype(dtype: tf.DType) -> tf.DType:
    """Returns the dtype that the rule is computed in: float32 or float64."""
    return tf.float64 if tf.as_dtype(dtype) == tf.float64 else tf.float32


def gather(table: tf.Variable, rows: tf.Tensor) -> tf.Tensor:
    """Rows of a table."""
    if not _as_bits(table):
        return tf.gather(table, rows)
    bits = tf.bitcast(tf.convert_to_tensor(table), tf.uint16)
    return tf.bitcast(tf.gather(bits, rows), table.dtype)


def replace(table: tf.Variable, values: tf.Tensor, rows: tf.Tensor) -> None:
    """Puts `values` in the place of rows of a table."""
    if not _as_bits(table):
        table.scatter_update(tf.IndexedSlices(values, rows))
        return
    bits = tf.tensor_scatter_nd_update(
        tf.bitcast(tf.convert_to_tensor(table), tf.uint16),
        rows[:, tf.newaxis],
        tf.bitcast(values, tf.uint16),
    )
    table.assign(tf.bitcast(bits, table.dtype))


def _as_bits(table: tf.Variable) -> bool:
    """True if rows are to be moved as bits.

    XLA for CPU would widen all of a half precision table to move a row of it.
    """
    return table.dtype in HALF and in_xla()


def scalar(value: Scalar, dtype: tf.DType) -> tf.Tensor:
    """A number or a scalar tensor as a tensor of `dtype`."""
    # tf.cast would round a Python float to float32 on the way to float64.
    if isinstance(value, (int, float)):
        return tf.constant(value, dtype)
    return tf.cast(tf.convert_to_tensor(value), dtype)
