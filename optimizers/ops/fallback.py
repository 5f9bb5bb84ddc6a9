"""Lion's rule in pure TensorFlow: the fallback of the custom ops."""

from __future__ import annotations

import tensorflow as tf

CAUTIOUS_FLOOR = 1e-3
"""Least fraction of kept elements that the cautious rescaling divides by."""


def lion_update(
    var: tf.Tensor,
    m: tf.Tensor,
    grad: tf.Tensor,
    lr: tf.Tensor | float,
    beta_1: tf.Tensor | float,
    beta_2: tf.Tensor | float,
    weight_decay: tf.Tensor | float,
    cautious: bool = False,
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
    """
    dtype = compute_dtype(var.dtype)
    return _rule(
        var,
        tf.cast(m, dtype),
        tf.cast(grad, dtype),
        (lr, beta_1, beta_2, weight_decay),
        m.dtype,
        list(range(var.shape.rank)) if cautious else None,
    )


def resource_apply_lion(
    var: tf.Variable,
    m: tf.Variable,
    lr: tf.Tensor | float,
    beta_1: tf.Tensor | float,
    beta_2: tf.Tensor | float,
    weight_decay: tf.Tensor | float,
    grad: tf.Tensor,
    cautious: bool = False,
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
    )
    var.assign(new_var)
    m.assign(new_m)


def resource_sparse_apply_lion(
    var: tf.Variable,
    m: tf.Variable,
    lr: tf.Tensor | float,
    beta_1: tf.Tensor | float,
    beta_2: tf.Tensor | float,
    weight_decay: tf.Tensor | float,
    grad: tf.Tensor,
    indices: tf.Tensor,
    cautious: bool = False,
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
    )


def resource_sparse_apply_decayed_lion(
    var: tf.Variable,
    m: tf.Variable,
    last_step: tf.Variable,
    step: tf.Tensor,
    lr: tf.Tensor | float,
    beta_1: tf.Tensor | float,
    beta_2: tf.Tensor | float,
    weight_decay: tf.Tensor | float,
    grad: tf.Tensor,
    indices: tf.Tensor,
    cautious: bool = False,
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
    )
    steps = tf.fill(tf.shape(rows), tf.cast(step, last_step.dtype))
    last_step.scatter_update(tf.IndexedSlices(steps, rows))


def catch_up(
    m: tf.Variable,
    last_step: tf.Variable,
    step: tf.Tensor,
    beta_2: tf.Tensor | float,
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
    """Returns `(sums, rows)`: `values` [n, ...] summed per distinct index."""
    rows, segments = tf.unique(indices)
    return tf.math.unsorted_segment_sum(values, segments, tf.size(rows)), rows


def compute_dtype(dtype: tf.DType) -> tf.DType:
    """Returns the dtype that the rule is computed in: float32 or float64."""
    return tf.float64 if tf.as_dtype(dtype) == tf.float64 else tf.float32


def _apply_rows(
    var: tf.Variable,
    m: tf.Variable,
    old_m: tf.Tensor,
    scalars: tuple[tf.Tensor | float, ...],
    grad: tf.Tensor,
    rows: tf.Tensor,
    cautious: bool,
) -> None:
    axes = list(range(1, var.shape.rank)) if cautious else None
    old_var = tf.gather(var, rows)
    new_var, new_m = _rule(old_var, old_m, grad, scalars, m.dtype, axes)
    var.scatter_update(tf.IndexedSlices(new_var, rows))
    m.scatter_update(tf.IndexedSlices(new_m, rows))


def _rule(
    var: tf.Tensor,
    m: tf.Tensor,
    grad: tf.Tensor,
    scalars: tuple[tf.Tensor | float, ...],
    m_dtype: tf.DType,
    cautious_axes: list[int] | None,
) -> tuple[tf.Tensor, tf.Tensor]:
    lr, beta_1, beta_2, weight_decay = (_scalar(s, m.dtype) for s in scalars)
    old = tf.cast(var, m.dtype)
    update = tf.sign(beta_1 * m + (1 - beta_1) * grad)
    if cautious_axes is not None:
        kept = tf.cast(update * tf.sign(grad) > 0, m.dtype)
        fraction = tf.reduce_mean(kept, cautious_axes, keepdims=True)
        update *= kept / tf.maximum(fraction, CAUTIOUS_FLOOR)
    if not (isinstance(scalars[3], (int, float)) and scalars[3] == 0):
        update += weight_decay * old
    new_m = beta_2 * m + (1 - beta_2) * grad
    return tf.cast(old - lr * update, var.dtype), tf.cast(new_m, m_dtype)


def _decay(
    beta_2: tf.Tensor | float,
    step: tf.Tensor,
    last_step: tf.Tensor,
    m: tf.Tensor,
) -> tf.Tensor:
    """beta_2**k per row, shaped to broadcast over `m`."""
    # A counter that was set back must not make the momentum grow.
    skipped = tf.maximum(tf.cast(step, tf.int32) - last_step - 1, 0)
    decay = _scalar(beta_2, m.dtype) ** tf.cast(skipped, m.dtype)
    trailing = [1] * (m.shape.rank - skipped.shape.rank)
    return tf.reshape(decay, tf.concat([tf.shape(decay), trailing], 0))


def _scalar(value: tf.Tensor | float, dtype: tf.DType) -> tf.Tensor:
    # tf.cast would round a Python float to float32 on the way to float64.
    if isinstance(value, (int, float)):
        return tf.constant(value, dtype)
    return tf.cast(tf.convert_to_tensor(value), dtype)
