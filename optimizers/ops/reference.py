"""Lion's rule in pure TensorFlow: the fallback of the custom ops."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import tensorflow as tf

from optimizers.ops.library import in_xla

Scalar: TypeAlias = "tf.Tensor | float"

CAUTIOUS_FLOOR = 1e-3
"""Least fraction of kept elements that the cautious rescaling divides by."""


def lion_update(
    var: tf.Tensor,
    m: tf.Tensor,
    grad: tf.Tensor,
    lr: Scalar,
    beta_1: Scalar,
    beta_2: Scalar,
    weight_decay: Scalar,
    cautious: bool = False,
    seed: int = 0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `(var, m)` after one step of Lion, without touching state.

    With before-update values on the right (arXiv 2302.06675):

        c   = beta_1 * m + (1 - beta_1) * grad
        var = var - lr * (sign(c) + weight_decay * var)
        m   = beta_2 * m + (1 - beta_2) * grad

    sign(±0) is 0 and NaN propagates. `cautious` (arXiv 2411.16085) keeps
    sign(c) only where it agrees with sign(grad) and divides what is kept by
    the kept fraction of the tensor, at least `CAUTIOUS_FLOOR`; decay and `m`
    are not masked.

    Args:
        var: weights, of any shape; float32, float64, bfloat16 or float16.
            The two half precisions are computed in float32.
        m: momentum, shape of `var`, of any float dtype.
        grad: gradient, shape of `var`.
        lr, beta_1, beta_2, weight_decay: scalars.
        cautious: mask the update where it disagrees with the gradient.
        seed: of the stochastic rounding of a bfloat16 `m`.
    """
    dtype = compute_dtype(var.dtype)

    def elements() -> tf.Tensor:
        return tf.reshape(tf.range(tf.size(var)), tf.shape(var))

    return _rule(
        var,
        tf.cast(m, dtype),
        tf.cast(grad, dtype),
        (lr, beta_1, beta_2, weight_decay),
        list(range(var.shape.rank)) if cautious else None,
        _Rounding(m.dtype, elements, seed),
    )


def sparse_lion_update(
    var: tf.Tensor,
    m: tf.Tensor,
    grad: tf.Tensor,
    indices: tf.Tensor,
    lr: Scalar,
    beta_1: Scalar,
    beta_2: Scalar,
    weight_decay: Scalar,
    cautious: bool = False,
    seed: int = 0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `(var, m)` with one step done to the rows `indices`.

    As `resource_sparse_apply_lion`, without touching state.
    """
    dtype = compute_dtype(var.dtype)
    summed, rows = sum_rows(tf.cast(grad, dtype), indices)
    new_var, new_m = _rule_of_rows(
        tf.gather(var, rows),
        tf.cast(tf.gather(m, rows), dtype),
        summed,
        (lr, beta_1, beta_2, weight_decay),
        rows,
        m.dtype,
        cautious,
        seed,
    )
    at = rows[:, tf.newaxis]
    return (
        tf.tensor_scatter_nd_update(var, at, new_var),
        tf.tensor_scatter_nd_update(m, at, new_m),
    )


def resource_apply_lion(
    var: tf.Variable,
    m: tf.Variable,
    lr: Scalar,
    beta_1: Scalar,
    beta_2: Scalar,
    weight_decay: Scalar,
    grad: tf.Tensor,
    cautious: bool = False,
    seed: int = 0,
) -> None:
    """Applies one dense step of `lion_update` to the variables `var`, `m`."""
    new_var, new_m = lion_update(
        tf.convert_to_tensor(var),
        tf.convert_to_tensor(m),
        grad,
        lr,
        beta_1,
        beta_2,
        weight_decay,
        cautious,
        seed,
    )
    var.assign(new_var)
    m.assign(new_m)


def resource_sparse_apply_lion(
    var: tf.Variable,
    m: tf.Variable,
    lr: Scalar,
    beta_1: Scalar,
    beta_2: Scalar,
    weight_decay: Scalar,
    grad: tf.Tensor,
    indices: tf.Tensor,
    cautious: bool = False,
    seed: int = 0,
) -> None:
    """Applies one step of `lion_update` to the rows `indices`, and to no other.

    Gradients of the same row are summed first. The cost and the memory depend
    on the number of indices, not on the table. `cautious` rescales per row.

    Args:
        var, m: variables of shape [rows, ...].
        lr, beta_1, beta_2, weight_decay: scalars.
        grad: shape [n, ...].
        indices: int32 or int64, shape [n]; any order, duplicates allowed.
        cautious: see `lion_update`.
    """
    dtype = compute_dtype(var.dtype)
    summed, rows = sum_rows(tf.cast(grad, dtype), indices)
    _apply_rows(
        var,
        m,
        tf.cast(tf.gather(m, rows), dtype),
        (lr, beta_1, beta_2, weight_decay),
        summed,
        rows,
        cautious,
        seed,
    )


def resource_sparse_apply_decayed_lion(
    var: tf.Variable,
    m: tf.Variable,
    last_step: tf.Variable,
    step: tf.Tensor,
    lr: Scalar,
    beta_1: Scalar,
    beta_2: Scalar,
    weight_decay: Scalar,
    grad: tf.Tensor,
    indices: tf.Tensor,
    cautious: bool = False,
    seed: int = 0,
) -> None:
    """As `resource_sparse_apply_lion`, with m decayed by the steps sat out.

    Before the rule a row's m becomes beta_2**k * m, for the k steps since the
    row's `last_step`; then `last_step` of the row becomes `step`.

    Args:
        last_step: int32 variable of shape [rows]; 0 before the first step.
        step: int32 scalar, the number of this step, from 1.
    """
    dtype = compute_dtype(var.dtype)
    summed, rows = sum_rows(tf.cast(grad, dtype), indices)
    old_m = tf.cast(tf.gather(m, rows), dtype)
    decay = _decay(beta_2, step, tf.gather(last_step, rows), old_m)
    _apply_rows(
        var,
        m,
        decay * old_m,
        (lr, beta_1, beta_2, weight_decay),
        summed,
        rows,
        cautious,
        seed,
    )
    steps = tf.fill(tf.shape(rows), tf.cast(step, last_step.dtype))
    last_step.scatter_update(tf.IndexedSlices(steps, rows))


def catch_up(
    m: tf.Variable,
    last_step: tf.Variable,
    step: tf.Tensor,
    beta_2: Scalar,
) -> None:
    """Decays all of `m` by the steps sat out, before a dense step `step`.

    Keeps `resource_sparse_apply_decayed_lion` right for a variable that gets
    a dense gradient, now or always.
    """
    old_m = tf.cast(m, compute_dtype(m.dtype))
    m.assign(tf.cast(_decay(beta_2, step, last_step, old_m) * old_m, m.dtype))
    last_step.assign(tf.fill(last_step.shape, tf.cast(step, last_step.dtype)))


def sum_rows(
    values: tf.Tensor, indices: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `(sums, rows)`: `values` [n, ...] summed per distinct index.

    For XLA, which wants static shapes, they have n rows too: what is left over
    is zero, of row -1, which XLA's gathers and scatters ignore.
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
    rows = tf.math.unsorted_segment_max(ids, segments, n)
    sums = tf.math.unsorted_segment_sum(tf.gather(values, order), segments, n)
    return sums, tf.maximum(rows, -1)


def compute_dtype(dtype: tf.DType) -> tf.DType:
    """Returns the dtype that the rule is computed in: float32 or float64."""
    return tf.float64 if tf.as_dtype(dtype) == tf.float64 else tf.float32


class _Rounding(NamedTuple):
    """To what and how a momentum is rounded: see `_narrow`."""

    dtype: tf.DType
    elements: Callable[[], tf.Tensor]
    seed: int


def _apply_rows(
    var: tf.Variable,
    m: tf.Variable,
    old_m: tf.Tensor,
    scalars: tuple[Scalar, ...],
    grad: tf.Tensor,
    rows: tf.Tensor,
    cautious: bool,
    seed: int,
) -> None:
    old_var = tf.gather(var, rows)
    new_var, new_m = _rule_of_rows(
        old_var, old_m, grad, scalars, rows, m.dtype, cautious, seed
    )
    var.scatter_update(tf.IndexedSlices(new_var, rows))
    m.scatter_update(tf.IndexedSlices(new_m, rows))


def _rule_of_rows(
    var: tf.Tensor,
    m: tf.Tensor,
    grad: tf.Tensor,
    scalars: tuple[Scalar, ...],
    rows: tf.Tensor,
    m_dtype: tf.DType,
    cautious: bool,
    seed: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    axes = list(range(1, var.shape.rank)) if cautious else None

    def elements() -> tf.Tensor:
        width = tf.reduce_prod(tf.shape(var, tf.int64)[1:])
        first = tf.cast(rows, tf.int64)[:, tf.newaxis] * width
        return tf.reshape(first + tf.range(width), tf.shape(var))

    return _rule(
        var, m, grad, scalars, axes, _Rounding(m_dtype, elements, seed)
    )


def _rule(
    var: tf.Tensor,
    m: tf.Tensor,
    grad: tf.Tensor,
    scalars: tuple[Scalar, ...],
    cautious_axes: list[int] | None,
    rounding: _Rounding,
) -> tuple[tf.Tensor, tf.Tensor]:
    lr, beta_1, beta_2, weight_decay = (scalar(s, m.dtype) for s in scalars)
    old = tf.cast(var, m.dtype)
    update = tf.sign(beta_1 * m + (1 - beta_1) * grad)
    if cautious_axes is not None:
        kept = tf.cast(update * tf.sign(grad) > 0, m.dtype)
        fraction = tf.reduce_mean(kept, cautious_axes, keepdims=True)
        update *= kept / tf.maximum(fraction, CAUTIOUS_FLOOR)
    new = old - lr * (update + weight_decay * old)
    new_m = _narrow(beta_2 * m + (1 - beta_2) * grad, new, rounding)
    return tf.cast(new, var.dtype), new_m


def _narrow(m: tf.Tensor, var: tf.Tensor, rounding: _Rounding) -> tf.Tensor:
    """Rounds a momentum to its dtype; to bfloat16 up or down at random.

    The mean is right, where rounding to nearest would lose (1 - beta_2) * grad
    for good whenever it is below half a unit in the last place of m. The
    random number is a hash of the seed, the element's number, the updated
    weight, which stands for the number of the step, and m: `Hash` in lion.h.
    """
    if rounding.dtype != tf.bfloat16:
        return tf.cast(m, rounding.dtype)
    number = functools.partial(tf.constant, dtype=tf.uint32)
    m = tf.cast(m, tf.float32)
    bits = tf.bitcast(m, tf.uint32)
    var_bits = tf.bitcast(tf.cast(var, tf.float32), tf.uint32)
    shift = tf.bitwise.right_shift
    xor = tf.bitwise.bitwise_xor
    start = number(rounding.seed * 0x9E3779B9 % 2**32)
    x = (tf.cast(rounding.elements(), tf.uint32) + start) * number(0x85EBCA6B)
    x = xor(xor(x, shift(x, number(16))), var_bits) * number(0x7FEB352D)
    x = xor(xor(x, shift(x, number(15))), bits) * number(0x846CA68B)
    x = xor(x, shift(x, number(16))) * number(0x7FEB352D)
    noise = tf.bitwise.bitwise_and(xor(x, shift(x, number(16))), number(0xFFFF))
    kept = tf.bitwise.bitwise_and(bits + noise, number(0xFFFF0000))
    rounded = tf.bitcast(kept, tf.float32)
    return tf.cast(tf.where(tf.math.is_nan(m), m, rounded), tf.bfloat16)


def _decay(
    beta_2: Scalar,
    step: tf.Tensor,
    last_step: tf.Tensor,
    m: tf.Tensor,
) -> tf.Tensor:
    """beta_2**k per row, shaped to broadcast over `m`."""
    # A counter that was set back must not make the momentum grow.
    skipped = tf.maximum(tf.cast(step, tf.int32) - last_step - 1, 0)
    decay = scalar(beta_2, m.dtype) ** tf.cast(skipped, m.dtype)
    trailing = [1] * (m.shape.rank - skipped.shape.rank)
    return tf.reshape(decay, tf.concat([tf.shape(decay), trailing], 0))


def scalar(value: Scalar, dtype: tf.DType) -> tf.Tensor:
    # tf.cast would round a Python float to float32 on the way to float64.
    if isinstance(value, (int, float)):
        return tf.constant(value, dtype)
    return tf.cast(tf.convert_to_tensor(value), dtype)
