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
        _Rounding(m.dtype, elements, _Noise(seed, step, stochastic)),
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
    summed, rows = sum_rows(tf.cast(grad, dtype), indices)
    new_var, new_m = _rule_of_rows(
        tf.gather(var, rows),
        tf.cast(tf.gather(m, rows), dtype),
        summed,
        (lr, beta_1, beta_2, weight_decay),
        rows,
        m.dtype,
        _Noise(seed, step, stochastic),
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
        _Noise(seed, step, stochastic),
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
        _Noise(seed, step, stochastic),
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
) -> None:
    """Does what the sparse updates do, to the rows that have a mark.

    All is element by element over the whole table, for XLA, which has no
    shape for a number of rows that it cannot know.

    Args:
        last_step: None, or as in `resource_sparse_apply_decayed_lion`.
        grad: shape of `var`.
        marks: bool, shape [rows].
    """
    dtype = compute_dtype(var.dtype)
    old_m = tf.cast(tf.convert_to_tensor(m), dtype)
    if last_step is not None:
        old_m *= _decay(beta_2, step, last_step, old_m)
        now = tf.cast(step, last_step.dtype)
        last_step.assign(tf.where(marks, now, last_step))
    new_var, new_m = _rule_of_rows(
        tf.convert_to_tensor(var),
        old_m,
        tf.cast(grad, dtype),
        (lr, beta_1, beta_2, weight_decay),
        tf.range(var.shape[0]),
        m.dtype,
        _Noise(seed, step, stochastic),
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


class _Noise(NamedTuple):
    """What rounding at random is made of, and whether of weights too."""

    seed: Scalar
    step: Scalar | None
    stochastic: bool


class _Rounding(NamedTuple):
    """To what and how a momentum is rounded, and how weights are.

    `elements` returns the number of each element in its table.
    """

    dtype: tf.DType
    elements: Callable[[], tf.Tensor]
    noise: _Noise


def _apply_rows(
    var: tf.Variable,
    m: tf.Variable,
    old_m: tf.Tensor,
    scalars: tuple[Scalar, ...],
    grad: tf.Tensor,
    rows: tf.Tensor,
    noise: _Noise,
    cautious: bool,
) -> None:
    old_var = tf.gather(var, rows)
    new_var, new_m = _rule_of_rows(
        old_var, old_m, grad, scalars, rows, m.dtype, noise, cautious
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
    noise: _Noise,
    cautious: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    axes = list(range(1, var.shape.rank)) if cautious else None

    def elements() -> tf.Tensor:
        width = tf.reduce_prod(tf.shape(var, tf.int64)[1:])
        first = tf.cast(rows, tf.int64)[:, tf.newaxis] * width
        return tf.reshape(first + tf.range(width), tf.shape(var))

    return _rule(
        var, m, grad, scalars, axes, _Rounding(m_dtype, elements, noise)
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
    return _narrow(new, beta_2 * m + (1 - beta_2) * grad, var.dtype, rounding)


def _narrow(
    var: tf.Tensor, m: tf.Tensor, dtype: tf.DType, rounding: _Rounding
) -> tuple[tf.Tensor, tf.Tensor]:
    """Rounds weights and momentum to their dtypes.

    A bfloat16 momentum is rounded up or down at random, and so are weights of
    half precision if they are to be. The mean is right, where rounding to
    nearest would lose for good what is below half a unit in the last place,
    as is (1 - beta_2) * grad beside m.
    """
    at_random = rounding.noise.stochastic and dtype in _HALF
    noise = None
    if rounds_at_random(dtype, rounding.dtype, at_random):
        noise = _hash(rounding)
    new_var = (
        _at_random(var, tf.bitwise.right_shift(noise, _u32(16)), dtype)
        if at_random
        else tf.cast(var, dtype)
    )
    if rounding.dtype != tf.bfloat16:
        return new_var, tf.cast(m, rounding.dtype)
    low = tf.bitwise.bitwise_and(noise, _u32(0xFFFF))
    return new_var, _at_random(m, low, tf.bfloat16)


def rounds_at_random(
    var_dtype: tf.DType, m_dtype: tf.DType, stochastic: bool
) -> bool:
    """Whether a step with state of these dtypes depends on its number."""
    return m_dtype == tf.bfloat16 or (stochastic and var_dtype in _HALF)


_HALF = (tf.bfloat16, tf.float16)
_u32 = functools.partial(tf.constant, dtype=tf.uint32)


def _hash(rounding: _Rounding) -> tf.Tensor:
    """Returns 32 bits per element: `Hash` in lion.h."""

    def uint32(number: Scalar) -> tf.Tensor:
        if isinstance(number, (int, float)):
            return _u32(int(number) % 2**32)
        return tf.cast(number, tf.uint32)

    shift, xor = tf.bitwise.right_shift, tf.bitwise.bitwise_xor
    seed, step, _ = rounding.noise
    step = step_or_chance(step)
    x = tf.cast(rounding.elements(), tf.uint32)
    x = (x + uint32(seed) * _u32(0x9E3779B9)) * _u32(0x85EBCA6B)
    x = xor(xor(x, shift(x, _u32(16))), uint32(step) * _u32(0xC2B2AE35))
    x *= _u32(0x7FEB352D)
    x = xor(x, shift(x, _u32(15))) * _u32(0x846CA68B)
    return xor(x, shift(x, _u32(16)))


def step_or_chance(step: Scalar | None) -> Scalar:
    """Returns `step`, or a random number for None: noise must not repeat."""
    if step is None:
        return tf.random.uniform([], maxval=2**31 - 1, dtype=tf.int32)
    return step


def _at_random(x: tf.Tensor, noise: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """`x` in a half precision, by 16 bits of noise: `NarrowAtRandom`."""
    x = tf.cast(x, tf.float32)
    bits = tf.bitcast(x, tf.uint32)
    if dtype == tf.bfloat16:
        kept = tf.bitwise.bitwise_and(bits + noise, _u32(0xFFFF0000))
    else:
        size = tf.abs(x)
        tiny = size < 2.0**-14
        # Subnormals are multiples of 2^-24; other numbers drop 13 bits.
        units = tf.where(tiny, size, 0.0) * 2.0**24
        units = tf.floor(units + tf.cast(noise, tf.float32) * 2.0**-16)
        moved = bits + tf.bitwise.right_shift(noise, _u32(3))
        moved = tf.bitwise.bitwise_and(moved, _u32(0xFFFFE000))
        kept = tf.where(
            tiny,
            tf.bitcast(tf.sign(x) * units * 2.0**-24, tf.uint32),
            tf.where(size < 65520.0, moved, bits),
        )
    rounded = tf.bitcast(kept, tf.float32)
    return tf.cast(tf.where(tf.math.is_nan(x), x, rounded), dtype)


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
