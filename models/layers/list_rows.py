"""Rows of the values of lists, whose number XLA wants padded.

XLA compiles a step anew for each number of values in a batch. `padded` brings
it to one of a few; the values behind the last list are of no row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from serving.manifest import BLOCK

PADDED = "padded"
# Powers of the square root of two, in whole blocks.
_SIZES = sorted({BLOCK * -int(-(2 ** (k / 2)) // BLOCK) for k in range(81)})


def value_rows(ragged: tf.RaggedTensor) -> tf.Tensor:
    """Row of each value, int64 [V]; -1 behind the last list."""
    at = tf.range(tf.size(ragged.flat_values, tf.int64), dtype=tf.int64)
    ends = ragged.row_splits[1:]
    rows = tf.searchsorted(ends, at, side="right", out_type=tf.int64)
    return tf.where(rows < ragged.nrows(), rows, -1)


def at_rows(values: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Gathers `values` [N, ...] at `rows` [V], at row 0 where that is -1."""
    return tf.gather(values, tf.maximum(rows, 0))


def padded(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs whose lists have one of few numbers of values.

    Behind the last list its last value is repeated: another one would be a
    row of the table that the batch does not read. The input PADDED says so.
    """
    found = {
        name: _padded(value) if isinstance(value, tf.RaggedTensor) else value
        for name, value in inputs.items()
    }
    return {**found, PADDED: tf.constant(True)}


def _padded(ragged: tf.RaggedTensor) -> tf.RaggedTensor:
    values = ragged.flat_values
    count = tf.size(values, tf.int64)
    sizes = tf.constant([0, *_SIZES], tf.int64)
    size = tf.gather(sizes, tf.searchsorted(sizes, count[None]))[0]
    at = tf.minimum(tf.range(size, dtype=tf.int64), count - 1)
    return tf.RaggedTensor.from_row_splits(
        tf.gather(values, at), ragged.row_splits, validate=False
    )
