"""Lion's rule compiled by XLA, the kernel 'xla'.

For calls outside of a function that XLA compiles as a whole.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from optimizers.ops import custom_op, rounding
from optimizers.ops.library import in_xla, load
from optimizers.ops.rounding import Scalar
from optimizers.ops.rows import check_ids, compute_dtype, scalar


@functools.cache
def _compiled(name: str) -> Callable[..., Any]:
    function = getattr(custom_op, name)
    return tf.function(function, jit_compile=True)


def _call(name: str, *arguments: Any, **options: Any) -> Any:
    """Calls the op `name` by one program for all variables of one shape.

    A Python number would be traced as a constant, so all become tensors; ids
    of any number would be compiled again, so they are padded.
    """
    bound = custom_op.signature(name).bind(*arguments, **options)
    bound.apply_defaults()
    given = bound.arguments
    wide = compute_dtype(given["var"].dtype)
    for rate in custom_op.RATES:
        if rate not in given:
            continue
        given[rate] = scalar(given[rate], wide)
    given["step"] = tf.cast(rounding.step_or_chance(given["step"]), tf.int32)
    given["seed"] = tf.cast(given["seed"], tf.int32)
    if "indices" in given:
        ids = tf.convert_to_tensor(given["indices"])
        if load().ops is None:  # whose kernels check for themselves
            ids = check_ids(ids, given["var"].shape[0])
        grad = tf.convert_to_tensor(given["grad"])
        if not in_xla():  # whose program is of this number of ids anyway
            grad, ids = _padded(grad, ids)
        given["grad"], given["indices"] = grad, ids
    return _compiled(name)(**given)


def _padded(grad: tf.Tensor, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Fills a batch up to one of four sizes an octave.

    With the id that stands for no row, the least number of its type.
    """
    more = _more(ids)
    return (
        tf.pad(grad, [[0, more], *[[0, 0]] * (grad.shape.rank - 1)]),
        tf.pad(ids, [[0, more]], constant_values=ids.dtype.min),
    )


def _more(ids: tf.Tensor) -> Scalar:
    """Number of ids that are missing to the next size of a batch."""
    count = ids.shape[0]
    if count is not None:
        return -count % (1 << max((count - 1).bit_length() - 3, 4))
    # The host knows the size, and waits for nothing that a GPU computes.
    with tf.device("CPU:0"):
        count = tf.size(ids)
        powers = tf.constant([1 << bits for bits in range(7, 31)])
        quantum = tf.reduce_max(tf.where(count > powers, powers // 4, 16))
        return -count % quantum


lion_update = functools.partial(_call, "lion_update")
sparse_lion_update = functools.partial(_call, "sparse_lion_update")
resource_apply_lion = functools.partial(_call, "resource_apply_lion")
resource_sparse_apply_lion = functools.partial(
    _call, "resource_sparse_apply_lion"
)
resource_sparse_apply_decayed_lion = functools.partial(
    _call, "resource_sparse_apply_decayed_lion"
)
