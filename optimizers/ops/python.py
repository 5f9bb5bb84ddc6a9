"""Lion's rule in pure TensorFlow, the kernel 'python'."""

from __future__ import annotations

import tensorflow as tf

from optimizers.ops.rounding import Noise, Rounding, Scalar, narrow
from optimizers.ops.rows import (
    check_ids,
    compute_dtype,
    gather,
    replace,
    scalar,
    sum_rows,
)

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
    seed: Scalar = 0,
    step: Scalar | None = None,
    stochastic: bool = False,
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
        seed, step: integers that make the noise by which a bfloat16 `m` is
            rounded: one seed a variable, one step an update. Without `step`
            the noise is another each time, from TensorFlow's random state.
        stochastic: round a bfloat16 or float16 `var` in the same way.
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
        Rounding(m.dtype, elements, Noise(seed, step, stochastic)),
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
    seed: Scalar = 0,
    step: Scalar | None = None,
    stochastic: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `(var, m)` with one step done to the rows `indices`.

    As `resource_sparse_apply_lion`, without touching state.
    """
    dtype = compute_dtype(var.dtype)
    indices = check_ids(indices, var.shape[0])
    summed, rows = sum_rows(tf.cast(grad, dtype), indices)
    new_var, new_m = _rule_of_rows(
        tf.gather(var, rows),
        tf.cast(tf.gather(m, rows), dtype),
        summed,
        (lr, beta_1, beta_2, weight_decay),
        rows,
        m.dtype,
        Noise(seed, step, stochastic),
        cautious,
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
    seed: Scalar = 0,
    step: Scalar | None = None,
    stochastic: bool = False,
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
        step,
        stochastic,
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
    seed: Scalar = 0,
    step: Scalar | None = None,
    stochastic: bool = False,
    seen: tf.Variable | None = None,
    frequency_power: Scalar = 0.0,
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
        seen: int32 variable of shape [rows], 0 before the first step. Each
            update of a row adds 1, to n; the rate is then lr * n**-power.
        frequency_power: that power, a scalar; of no use without `seen`.
    """
    dtype = compute_dtype(var.dtype)
    indices = check_ids(indices, var.shape[0])
    summed, rows = sum_rows(tf.cast(grad, dtype), indices)
    rate = scalar(lr, dtype)
    if seen is not None:
        count = tf.gather(seen, rows) + 1
        seen.scatter_update(tf.IndexedSlices(count, rows))
        rate *= _frequency(frequency_power, count, var)
    _apply_rows(
        var,
        m,
        tf.cast(gather(m, rows), dtype),
        (rate, beta_1, beta_2, weight_decay),
        summed,
        rows,
        Noise(seed, step, stochastic),
        cautious,
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
    seed: Scalar = 0,
    stochastic: bool = False,
    seen: tf.Variable | None = None,
    frequency_power: Scalar = 0.0,
) -> None:
    """As `resource_sparse_apply_lion`, with m decayed by the steps sat out.

    Before the rule a row's m becomes beta_2**k * m, for the k steps since the
    row's `last_step`; then `last_step` of the row becomes `step`.

    Args:
        last_step: int32 variable of shape [rows]; 0 before the first step.
        step: int32 scalar, the number of this step, from 1.
        seen, frequency_power: see `resource_sparse_apply_lion`.
    """
    dtype = compute_dtype(var.dtype)
    indices = check_ids(indices, var.shape[0])
    summed, rows = sum_rows(tf.cast(grad, dtype), indices)
    rate = scalar(lr, dtype)
    if seen is not None:
        count = tf.gather(seen, rows) + 1
        seen.scatter_update(tf.IndexedSlices(count, rows))
        rate *= _frequency(frequency_power, count, var)
    old_m = tf.cast(gather(m, rows), dtype)
    decay = _decay(beta_2, step, tf.gather(last_step, rows), old_m)
    _apply_rows(
        var,
        m,
        decay * old_m,
        (rate, beta_1, beta_2, weight_decay),
        summed,
        rows,
        Noise(seed, step, stochastic),
        cautious,
    )
    steps = tf.fill(tf.shape(rows), tf.cast(step, last_step.dtype))
    last_step.scatter_update(tf.IndexedSlices(steps, rows))


def apply_lion_to_marked_rows(
    var: tf.Variable,
    m: tf.Variable,
    last_step: tf.Variable | None,
    step: tf.Tensor,
    lr: Scalar,
    beta_1: Scalar,
    beta_2: Scalar,
    weight_decay: Scalar,
    grad: tf.Tensor,
    marks: tf.Tensor,
    cautious: bool = False,
    seed: Scalar = 0,
    stochastic: bool = False,
    seen: tf.Variable | None = None,
    frequency_power: Scalar = 0.0,
) -> None:
    """Does what the sparse updates do, to the rows that have a mark.

    All is element by element over the whole table, for XLA, which has no
    shape for a number of rows that it cannot know.

    Args:
        last_step: None, or as in `resource_sparse_apply_decayed_lion`.
        grad: shape of `var`.
        marks: bool, shape [rows].
        seen, frequency_power: see `resource_sparse_apply_lion`.
    """
    dtype = compute_dtype(var.dtype)
    old_m = tf.cast(tf.convert_to_tensor(m), dtype)
    if last_step is not None:
        old_m *= _decay(beta_2, step, last_step, old_m)
        now = tf.cast(step, last_step.dtype)
        last_step.assign(tf.where(marks, now, last_step))
    rate = scalar(lr, dtype)
    if seen is not None:
        count = tf.convert_to_tensor(seen) + tf.cast(marks, seen.dtype)
        seen.assign(count)
        rate *= _frequency(frequency_power, count, var)
    new_var, new_m = _rule_of_rows(
        tf.convert_to_tensor(var),
        old_m,
        tf.cast(grad, dtype),
        (rate, beta_1, beta_2, weight_decay),
        tf.range(var.shape[0]),
        m.dtype,
        Noise(seed, step, stochastic),
        cautious,
    )
    update = tf.reshape(marks, [-1] + [1] * (var.shape.rank - 1))
    var.assign(tf.where(update, new_var, var))
    m.assign(tf.where(update, new_m, m))


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
    step = tf.cast(step, last_step.dtype)

    def decay_rows() -> tf.Tensor:
        old_m = tf.cast(m, compute_dtype(m.dtype))
        decayed = _decay(beta_2, step, last_step, old_m) * old_m
        m.assign(tf.cast(decayed, m.dtype))
        return step

    # No row sat out where all gradients are dense: m may be left alone.
    sat_out = tf.reduce_min(tf.convert_to_tensor(last_step)) < step - 1
    step = tf.cond(sat_out, decay_rows, lambda: step)
    last_step.assign(tf.fill(last_step.shape, step))


def _apply_rows(
    var: tf.Variable,
    m: tf.Variable,
    old_m: tf.Tensor,
    scalars: tuple[Scalar, ...],
    grad: tf.Tensor,
    rows: tf.Tensor,
    noise: Noise,
    cautious: bool,
) -> None:
    old_var = gather(var, rows)
    new_var, new_m = _rule_of_rows(
        old_var, old_m, grad, scalars, rows, m.dtype, noise, cautious
    )
    replace(var, new_var, rows)
    replace(m, new_m, rows)


def _rule_of_rows(
    var: tf.Tensor,
    m: tf.Tensor,
    grad: tf.Tensor,
    scalars: tuple[Scalar, ...],
    rows: tf.Tensor,
    m_dtype: tf.DType,
    noise: Noise,
    cautious: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    axes = list(range(1, var.shape.rank)) if cautious else None

    def elements() -> tf.Tensor:
        width = tf.reduce_prod(tf.shape(var, tf.int64)[1:])
        first = tf.cast(rows, tf.int64)[:, tf.newaxis] * width
        return tf.reshape(first + tf.range(width), tf.shape(var))

    return _rule(
        var, m, grad, scalars, axes, Rounding(m_dtype, elements, noise)
    )


def _rule(
    var: tf.Tensor,
    m: tf.Tensor,
    grad: tf.Tensor,
    scalars: tuple[Scalar, ...],
    cautious_axes: list[int] | None,
    rounding: Rounding,
) -> tuple[tf.Tensor, tf.Tensor]:
    lr, beta_1, beta_2, weight_decay = (scalar(s, m.dtype) for s in scalars)
    old = tf.cast(var, m.dtype)
    update = tf.sign(beta_1 * m + (1 - beta_1) * grad)
    if cautious_axes is not None:
        kept = tf.cast(update * tf.sign(grad) > 0, m.dtype)
        fraction = tf.reduce_mean(kept, cautious_axes, keepdims=True)
        update *= kept / tf.maximum(fraction, CAUTIOUS_FLOOR)
    new = old - lr * (update + weight_decay * old)
    return narrow(new, beta_2 * m + (1 - beta_2) * grad, var.dtype, rounding)


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


def _frequency(power: Scalar, count: tf.Tensor, var: tf.Variable) -> tf.Tensor:
    """count**-power per row, shaped to broadcast over `var`."""
    dtype = compute_dtype(var.dtype)
    # A counter that was set back must not make the rate infinite.
    number = tf.cast(tf.maximum(count, 1), tf.float64)
    # In float64: libraries differ in the last bit of a float32's power.
    factor = number ** -tf.cast(scalar(power, dtype), tf.float64)
    factor = tf.cast(factor, dtype)
    return tf.reshape(factor, [-1] + [1] * (var.shape.rank - 1))
