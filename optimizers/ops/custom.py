"""Lion's rule by the ops of the library; see `fallback` for the contracts."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from optimizers.ops import reference, rounding
from optimizers.ops.library import load, usable
from optimizers.ops.reference import compute_dtype
from optimizers.ops.rounding import Scalar


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
    """See `fallback.lion_update`."""
    rule = (lr, beta_1, beta_2, weight_decay)
    options = (cautious, seed, step, stochastic)
    var, m = tf.convert_to_tensor(var), tf.convert_to_tensor(m)
    gradient = _gradient(grad, var.dtype)
    if gradient is None:
        return reference.lion_update(var, m, grad, *rule, *options)
    updated = load().ops.lion_update(
        var=var,
        m=m,
        **_scalars(rule, var, m, seed, step, stochastic),
        grad=gradient,
        cautious=cautious,
        stochastic=stochastic,
    )
    return updated.var_out, updated.m_out


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
    """See `fallback.sparse_lion_update`."""
    rule = (lr, beta_1, beta_2, weight_decay)
    options = (cautious, seed, step, stochastic)
    var, m = tf.convert_to_tensor(var), tf.convert_to_tensor(m)
    gradient = _gradient(grad, var.dtype)
    if gradient is None:
        return reference.sparse_lion_update(
            var, m, grad, indices, *rule, *options
        )
    updated = load().ops.sparse_lion_update(
        var=var,
        m=m,
        **_scalars(rule, var, m, seed, step, stochastic),
        grad=gradient,
        indices=indices,
        cautious=cautious,
        stochastic=stochastic,
    )
    return updated.var_out, updated.m_out


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
    """See `fallback.resource_apply_lion`."""
    rule = (lr, beta_1, beta_2, weight_decay)
    options = (cautious, seed, step, stochastic)
    gradient = _gradient(grad, var.dtype)
    if gradient is None:
        reference.resource_apply_lion(var, m, *rule, grad, *options)
        return
    load().ops.resource_apply_lion(
        var=var.handle,
        m=m.handle,
        **_scalars(rule, var, m, seed, step, stochastic),
        grad=gradient,
        T=var.dtype,
        M=m.dtype,
        cautious=cautious,
        stochastic=stochastic,
    )


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
    """See `fallback.resource_sparse_apply_lion`."""
    rule = (lr, beta_1, beta_2, weight_decay)
    options = (cautious, seed, step, stochastic)
    gradient = _gradient(grad, var.dtype)
    if gradient is None:
        reference.resource_sparse_apply_lion(
            var, m, *rule, grad, indices, *options, seen, frequency_power
        )
        return
    ops, counted = load().ops, _counted(seen, frequency_power, var)
    apply = (
        ops.resource_sparse_apply_counted_lion
        if counted
        else ops.resource_sparse_apply_lion
    )
    apply(
        var=var.handle,
        m=m.handle,
        **counted,
        **_scalars(rule, var, m, seed, step, stochastic),
        grad=gradient,
        indices=indices,
        T=var.dtype,
        M=m.dtype,
        cautious=cautious,
        stochastic=stochastic,
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
    """See `fallback.resource_sparse_apply_decayed_lion`."""
    rule = (lr, beta_1, beta_2, weight_decay)
    gradient = _gradient(grad, var.dtype)
    if gradient is None:
        reference.resource_sparse_apply_decayed_lion(
            *(var, m, last_step, step, *rule, grad, indices),
            *(cautious, seed, stochastic, seen, frequency_power),
        )
        return
    ops, counted = load().ops, _counted(seen, frequency_power, var)
    apply = (
        ops.resource_sparse_apply_decayed_counted_lion
        if counted
        else ops.resource_sparse_apply_decayed_lion
    )
    apply(
        var=var.handle,
        m=m.handle,
        last_step=last_step.handle,
        **counted,
        **_scalars(rule, var, m, seed, step, stochastic),
        grad=gradient,
        indices=indices,
        T=var.dtype,
        M=m.dtype,
        cautious=cautious,
        stochastic=stochastic,
    )


def _gradient(grad: tf.Tensor, dtype: tf.DType) -> tf.Tensor | None:
    """Returns `grad` as the ops take it, or None if the fallback must run.

    The ops take gradients of the variable's dtype and of the one that its
    rule is computed in: a wider gradient of a half precision variable, such
    as a clipped one, keeps its last bits.
    """
    if not usable():
        return None
    grad = tf.convert_to_tensor(grad, dtype_hint=dtype)
    return grad if grad.dtype == dtype else tf.cast(grad, compute_dtype(dtype))


def _scalars(
    rule: tuple[Scalar, ...],
    var: tf.Tensor | tf.Variable,
    m: tf.Tensor | tf.Variable,
    seed: Scalar,
    step: Scalar | None,
    stochastic: bool,
) -> dict[str, Any]:
    names = ("lr", "beta_1", "beta_2", "weight_decay")
    wide = compute_dtype(var.dtype)
    if step is None:
        noisy = rounding.rounds_at_random(var.dtype, m.dtype, stochastic)
        step = rounding.step_or_chance(None) if noisy else 0
    return {
        "seed": tf.cast(seed, tf.int32),
        "step": tf.cast(step, tf.int32),
        **{
            name: reference.scalar(value, wide)
            for name, value in zip(names, rule, strict=True)
        },
    }


def _counted(
    seen: tf.Variable | None, power: Scalar, var: tf.Variable
) -> dict[str, Any]:
    """The arguments of an op that counts rows; none without `seen`."""
    if seen is None:
        return {}
    power = reference.scalar(power, compute_dtype(var.dtype))
    return {"seen": seen.handle, "frequency_power": power}
