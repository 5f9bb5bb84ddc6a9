"""Scaling, accumulating and clipping tf.IndexedSlices as Keras expects it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from optimizers.ops.rows import check_ids, compute_dtype, sum_rows


class SparseGradient:
    """A tf.IndexedSlices with the arithmetic that Keras asks of a gradient.

    Keras divides a gradient by the loss scale, adds its accumulator to it and
    divides by the number of accumulated steps; tf.IndexedSlices has none of
    these operators.

    Args:
        slices: the gradient.
        accumulate: `(slices, accumulator) -> sum`, called by `+`.
    """

    def __init__(
        self,
        slices: tf.IndexedSlices,
        accumulate: Callable[[tf.IndexedSlices, Any], Any],
    ) -> None:
        self.slices = slices
        self._accumulate = accumulate

    def __truediv__(self, divisor: Any) -> SparseGradient:
        values = self.slices.values / tf.cast(divisor, self.slices.dtype)
        return SparseGradient(
            _with_values(self.slices, values), self._accumulate
        )

    def __add__(self, accumulator: Any) -> Any:
        total = self._accumulate(self.slices, accumulator)
        if isinstance(total, tf.IndexedSlices):
            return SparseGradient(total, self._accumulate)
        return total


class _Divisible:
    """A tf.IndexedSlices that Keras can divide by its loss scale."""

    def __init__(self, slices: tf.IndexedSlices) -> None:
        self._slices = slices

    def __truediv__(self, divisor: Any) -> tf.IndexedSlices:
        values = self._slices.values / tf.cast(divisor, self._slices.dtype)
        return _with_values(self._slices, values)


def unscale_rows(optimizer: Any) -> Any:
    """Makes a stock Keras 3 optimizer take `loss_scale_factor` and sparse rows.

    Keras divides every gradient by the factor, which tf.IndexedSlices cannot.
    """
    apply = optimizer.apply

    def apply_divisible(
        grads: Sequence[Any], trainable_variables: Any = None
    ) -> None:
        if optimizer.loss_scale_factor is not None:
            grads = [
                _Divisible(g) if isinstance(g, tf.IndexedSlices) else g
                for g in grads
            ]
        apply(grads, trainable_variables)

    optimizer.apply = apply_divisible
    return optimizer


class MarkedRows(NamedTuple):
    """Accumulated rows for XLA, which cannot count them: all of a table's.

    Those without a mark are zero, and are not to be updated.
    """

    values: tf.Tensor  # [rows, ...]
    marks: tf.Tensor  # bool [rows]

    def __truediv__(self, divisor: Any) -> MarkedRows:
        values = self.values / tf.cast(divisor, self.values.dtype)
        return MarkedRows(values, self.marks)


def unwrap(gradient: Any) -> Any:
    """Returns the slices of a SparseGradient; anything else stays itself."""
    if isinstance(gradient, SparseGradient):
        return gradient.slices
    return gradient


def densify(gradient: Any, variable: Any) -> Any:
    """Returns tf.IndexedSlices as a tensor of the variable's shape.

    Duplicates are summed, half precisions in float32. A tensor stays itself.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    values = tf.cast(gradient.values, compute_dtype(gradient.dtype))
    rows = variable.shape[0]
    indices = check_ids(gradient.indices, rows)
    return tf.math.unsorted_segment_sum(values, indices, rows)


def clip(
    gradients: Sequence[Any],
    clipnorm: float | None,
    global_clipnorm: float | None,
    clipvalue: float | None,
) -> list[Any]:
    """Clips gradients; a tf.IndexedSlices stays one, with its rows summed.

    Rows that occur more than once are summed before a norm is taken or a
    value compared, as if the gradient were dense. Half precisions are clipped
    in float32. The first limit that is set counts, in the order given.
    """
    clipped = [_summed(gradient) for gradient in gradients]
    if clipnorm:
        clipped = [tf.clip_by_norm(g, clipnorm) for g in clipped]
    elif global_clipnorm:
        clipped = tf.clip_by_global_norm(clipped, global_clipnorm)[0]
    elif clipvalue:
        clipped = [tf.clip_by_value(g, -clipvalue, clipvalue) for g in clipped]
    return [
        MarkedRows(new, old.marks) if isinstance(old, MarkedRows) else new
        for old, new in zip(gradients, clipped, strict=True)
    ]


def _summed(gradient: Any) -> Any:
    if isinstance(gradient, MarkedRows):
        gradient = gradient.values
    dtype = compute_dtype(gradient.dtype)
    if not isinstance(gradient, tf.IndexedSlices):
        return tf.cast(gradient, dtype)
    values, rows = sum_rows(tf.cast(gradient.values, dtype), gradient.indices)
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def _with_values(
    slices: tf.IndexedSlices, values: tf.Tensor
) -> tf.IndexedSlices:
    return tf.IndexedSlices(values, slices.indices, slices.dense_shape)
