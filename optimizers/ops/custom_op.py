"""Lion's rule by the ops of the library, the kernel 'custom_op'.

Each function takes the arguments of the one of its name in `python`, whose
docstring counts, and calls that one where the library cannot be used.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import tensorflow as tf

from optimizers.ops import python, rounding
from optimizers.ops.library import load, usable
from optimizers.ops.rows import compute_dtype, scalar

RATES = ("lr", "beta_1", "beta_2", "weight_decay", "frequency_power")
_STATE = ("var", "m", "last_step", "seen")


@functools.cache
def signature(name: str) -> inspect.Signature:
    """Arguments that every kernel's function of this name takes."""
    return inspect.signature(getattr(python, name))


def _call(name: str, *arguments: Any, **options: Any) -> Any:
    """Calls the op `name`, or the kernel in Python."""
    bound = signature(name).bind(*arguments, **options)
    bound.apply_defaults()
    given = bound.arguments
    stateless = not name.startswith("resource_")
    if stateless:
        for tensor in ("var", "m"):
            given[tensor] = tf.convert_to_tensor(given[tensor])
    var, m = given["var"], given["m"]
    gradient = _gradient(given["grad"], var.dtype)
    if gradient is None:
        return getattr(python, name)(**given)
    given["grad"] = gradient
    if given.get("seen") is None:
        for counted in ("seen", "frequency_power"):
            given.pop(counted, None)
    else:
        name = name.replace("_lion", "_counted_lion")
    _set_step(given)
    for rate in RATES:
        if rate in given:
            given[rate] = scalar(given[rate], compute_dtype(var.dtype))
    op = getattr(load().ops, name)
    if stateless:
        updated = op(**given)
        return updated.var_out, updated.m_out
    handles = {key: given[key].handle for key in _STATE if key in given}
    op(**{**given, **handles}, T=var.dtype, M=m.dtype)
    return None


def _gradient(grad: tf.Tensor, dtype: tf.DType) -> tf.Tensor | None:
    """Returns `grad` as the ops take it, or None if Python must run.

    The ops take gradients of the variable's dtype and of the one that its
    rule is computed in: a wider gradient of a half precision variable, such
    as a clipped one, keeps its last bits.
    """
    if not usable():
        return None
    grad = tf.convert_to_tensor(grad, dtype_hint=dtype)
    return grad if grad.dtype == dtype else tf.cast(grad, compute_dtype(dtype))


def _set_step(given: dict[str, Any]) -> None:
    """Makes seed and step tensors; another step each time without one."""
    step = given["step"]
    if step is None:
        dtypes = given["var"].dtype, given["m"].dtype
        noisy = rounding.rounds_at_random(*dtypes, given["stochastic"])
        step = rounding.step_or_chance(None) if noisy else 0
    given["seed"] = tf.cast(given["seed"], tf.int32)
    given["step"] = tf.cast(step, tf.int32)


lion_update = functools.partial(_call, "lion_update")
sparse_lion_update = functools.partial(_call, "sparse_lion_update")
resource_apply_lion = functools.partial(_call, "resource_apply_lion")
resource_sparse_apply_lion = functools.partial(
    _call, "resource_sparse_apply_lion"
)
resource_sparse_apply_decayed_lion = functools.partial(
    _call, "resource_sparse_apply_decayed_lion"
)
