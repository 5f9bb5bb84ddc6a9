"""Vectors of requests and examples to matrices, inside the graph.

The ingest has the same rule: `Column.vectors` in
components/click_log_gen/columns. A row without a value is NaN.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from models.config.vectors import VectorFeature

_NUMBER = r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"


def matrix(column: Any, size: int) -> tf.Tensor:
    """float32 [N, size] of a column that holds vectors or nothing.

    Args:
        column: such a matrix, or a sparse one [N, (size or 0)].
        size: of a vector.
    """
    if not isinstance(column, tf.SparseTensor):
        return column
    lengths = tf.RaggedTensor.from_sparse(column).row_lengths()
    return _scattered(lengths, column.values, size)


def checked(column: Any, feature: VectorFeature) -> tf.Tensor:
    """As `matrix`, of a request's texts [N] or an example's numbers.

    The graph fails with InvalidArgumentError, which names the feature, where
    a row has another number of numbers, or one that is not finite.
    """
    lengths, numbers, good = _numbers(column, feature.separator)
    fit = tf.equal(lengths, 0) | tf.equal(lengths, feature.size)
    check = tf.debugging.Assert(
        tf.reduce_all(fit) & tf.reduce_all(good),
        [
            (
                f"feature {feature.name!r}: accepted are {feature.size} finite"
                " numbers, or none. Received so many, or one that is none:"
            ),
            tf.boolean_mask(lengths, ~fit)[:1],
        ],
    )
    with tf.control_dependencies([check]):
        return _scattered(tf.identity(lengths), numbers, feature.size)


def sparse(values: tf.Tensor) -> tf.SparseTensor:
    """A matrix as Transform's graph takes it."""
    at = tf.where(tf.math.is_finite(values))
    return tf.SparseTensor(
        at, tf.gather_nd(values, at), tf.shape(values, tf.int64)
    )


def lists(name: str, column: Any, separator: str) -> tf.SparseTensor:
    """Numbers of a list of any length, of texts [N] or an example's numbers.

    The graph fails with InvalidArgumentError, which names the feature, where
    one is not finite.
    """
    lengths, numbers, good = _numbers(column, separator)
    check = tf.debugging.Assert(
        tf.reduce_all(good),
        [f"feature {name!r}: accepted are finite numbers; one is none"],
    )
    with tf.control_dependencies([check]):
        ragged = tf.RaggedTensor.from_row_lengths(
            tf.identity(numbers), lengths, validate=False
        )
    return ragged.to_sparse()


def _numbers(
    column: Any, separator: str
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """How many numbers each row has; all of them; which are finite."""
    if isinstance(column, tf.SparseTensor):
        lengths = tf.RaggedTensor.from_sparse(column).row_lengths()
        return lengths, column.values, tf.math.is_finite(column.values)
    there = tf.not_equal(column, "")
    parts = tf.strings.split(tf.boolean_mask(column, there), separator)
    rows = tf.where(there)  # [there, 1]
    lengths = tf.scatter_nd(
        rows, parts.row_lengths(), tf.shape(column, tf.int64)
    )
    texts = tf.strings.strip(parts.flat_values)
    good = tf.strings.regex_full_match(texts, _NUMBER)
    numbers = tf.strings.to_number(tf.where(good, texts, "0"), tf.float32)
    return lengths, numbers, good & tf.math.is_finite(numbers)


def _scattered(lengths: tf.Tensor, numbers: tf.Tensor, size: int) -> tf.Tensor:
    rows = tf.where(lengths > 0)  # [vectors, 1]
    return tf.tensor_scatter_nd_update(
        tf.fill([tf.size(lengths), size], float("nan")),
        rows,
        tf.reshape(numbers, [-1, size]),
    )
