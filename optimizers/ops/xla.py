"""Lion's rule compiled by XLA, outside of a function that XLA compiles."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from optimizers.ops import custom


@functools.cache
def _compiled(name: str) -> Callable[..., Any]:
    function = getattr(custom, name)
    return tf.function(function, jit_compile=True)


def _call(name: str, *arguments: Any, **options: Any) -> Any:
    return _compiled(name)(*arguments, **options)


lion_update = functools.partial(_call, "lion_update")
sparse_lion_update = functools.partial(_call, "sparse_lion_update")
resource_apply_lion = functools.partial(_call, "resource_apply_lion")
resource_sparse_apply_lion = functools.partial(
    _call, "resource_sparse_apply_lion"
)
resource_sparse_apply_decayed_lion = functools.partial(
    _call, "resource_sparse_apply_decayed_lion"
)
