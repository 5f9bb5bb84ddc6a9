"""Sequences to lists of ids and numbers, the newest item first.

A sequence and its sides are of equal lengths: the ingest checks it, and the
exported graph. Beside a sequence of one item, a side without a text is missing:
an empty text is no list. The place of an item without a value is left out of
all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from models.config.sequences import SequenceFeature
from models.preprocessing.logarithm import signed_log1p


class Newest(NamedTuple):
    """Items of rows one after the other, the newest `max_len` of each.

    rows: whose they are, int64 [V], rising. columns: of the sequence and its
    sides, their values [V]: texts, ids, or numbers as sign(x)·log(1 + |x|).
    """

    rows: tf.Tensor
    columns: dict[str, tf.Tensor]


def newest(
    sequence: SequenceFeature, inputs: Mapping[str, Any], count: Any
) -> Newest:
    """The newest items of each row.

    Args:
        sequence: of the config.
        inputs: raw feature name -> sparse texts or numbers, or ids as int64,
            where 0 is missing. A column without a value may be absent.
        count: rows, int64.
    """
    items = inputs.get(sequence.column)
    if items is None:
        items = _nothing(count)
    there = tf.where(tf.not_equal(items.values, _missing(items.dtype)))[:, 0]
    filled = tf.RaggedTensor.from_value_rowids(
        there, tf.gather(items.indices[:, 0], there), count, validate=False
    )
    most = tf.constant(sequence.max_len, tf.int64)
    lengths = tf.minimum(filled.row_lengths(), most)
    if sequence.order == "newest_first":
        first = filled.row_starts()
        places = tf.ragged.range(first, first + lengths)
    else:
        last = filled.row_limits() - 1
        places = tf.ragged.range(last, last - lengths, -1)
    at = tf.gather(there, places.flat_values)
    columns = {sequence.column: tf.gather(items.values, at)}
    for column, side in sequence.columns.items():
        if column in inputs and side.items is None:
            found = tf.gather(inputs[column].values, at)
        elif column in inputs:
            found = _beside(inputs[column], items, at)
        else:  # never seen, and so neither were the items
            kind = tf.float32 if side.items is None else tf.string
            found = tf.zeros(tf.shape(at), kind)
        columns[column] = signed_log1p(found) if side.items is None else found
    return Newest(places.value_rowids(), columns)


def _beside(
    side: tf.SparseTensor, items: tf.SparseTensor, at: tf.Tensor
) -> tf.Tensor:
    """Values of a side for some items, given by their places in `items`."""
    rows = tf.gather(items.indices[:, 0], at)
    count = tf.maximum(items.dense_shape[0], side.dense_shape[0])
    lengths = _lengths(side, count)
    starts = tf.cumsum(lengths, exclusive=True)
    first = tf.cumsum(_lengths(items, count), exclusive=True)
    places = at - tf.gather(first, rows) + tf.gather(starts, rows)
    nowhere = tf.size(side.values, tf.int64)
    there = tf.gather(lengths, rows) > 0
    values = tf.concat([side.values, [_missing(side.values.dtype)]], 0)
    return tf.gather(values, tf.where(there, places, nowhere))


def checked(
    sequence: SequenceFeature, columns: Mapping[str, Any]
) -> dict[str, tf.SparseTensor]:
    """The sequence's columns, or InvalidArgumentError, which names it.

    A side has as many values in each row as the sequence, or is missing beside
    one item.

    Args:
        sequence: of the config.
        columns: sparse, of requests.
    """
    items = columns[sequence.column]
    count = items.dense_shape[0]
    lengths = _lengths(items, count)
    checks = []
    for name, side in sequence.columns.items():
        if name not in columns:  # empty in every training row
            continue
        own = _lengths(columns[name], count)
        other = tf.not_equal(own, lengths)
        if side.items is not None:
            other &= (lengths != 1) | (own != 0)
        checks.append(
            tf.debugging.Assert(
                tf.reduce_all(~other),
                [
                    (
                        f"feature {name!r}: accepted are as many values as"
                        f" {sequence.column!r} has. Received, and has:"
                    ),
                    tf.boolean_mask(own, other)[:1],
                    tf.boolean_mask(lengths, other)[:1],
                ],
            )
        )
    with tf.control_dependencies(checks):
        whole = items.with_values(tf.identity(items.values))
    return {sequence.column: whole}


def _lengths(sparse: tf.SparseTensor, count: tf.Tensor) -> tf.Tensor:
    rows = sparse.indices[:, 0]
    return tf.math.unsorted_segment_sum(tf.ones_like(rows), rows, count)


def _missing(kind: tf.DType) -> Any:
    return "" if kind == tf.string else tf.constant(0, kind)


def _nothing(count: tf.Tensor) -> tf.SparseTensor:
    return tf.SparseTensor(
        tf.zeros([0, 2], tf.int64),
        tf.zeros([0], tf.string),
        tf.stack([count, tf.zeros_like(count)]),
    )
