"""Loads the op library, once per process."""

from __future__ import annotations

import functools
import warnings
from typing import Any, NamedTuple

import tensorflow as tf

from optimizers.ops import build


class Library(NamedTuple):
    """The loaded ops, or None and why; whether XLA can compile them."""

    ops: Any
    reason: str
    xla: bool


@functools.cache
def load() -> Library:
    """Returns the library; warns, once, if the Python kernel must do.

    A process may have compiled with XLA before: the ops are registered as
    kernels of XLA's devices, which TensorFlow looks up again each time.
    """
    path, reason = build.find()
    if path is not None:
        try:
            ops = tf.load_op_library(str(path))
        except (tf.errors.OpError, OSError) as error:
            reason = f"{path.name} does not load: {error}"
        else:
            return Library(ops, reason, build.XLA_SOURCE.exists())
    warnings.warn(
        f"Lion's op library cannot be used: {reason}. Its Python kernel gives "
        f"the same numbers, slower. `{build.COMMAND}` builds the library; "
        "kernel='python' asks for the Python kernel without this warning.",
        stacklevel=3,
    )
    return Library(None, reason, False)


def usable() -> bool:
    """True if the ops can be called here: eagerly or in this graph."""
    library = load()
    return library.ops is not None and (library.xla or not in_xla())


def in_xla() -> bool:
    """True while a function is traced that XLA will compile."""
    # A function with jit_compile=True is traced in an XLA context, for which
    # TensorFlow has no public question.
    graph = tf.compat.v1.get_default_graph()
    while graph is not None and not tf.executing_eagerly():
        context = graph._get_control_flow_context()
        while context is not None:
            if context.IsXLAContext():
                return True
            context = context.outer_context
        graph = getattr(graph, "outer_graph", None)
    return False
