"""Variables of a model and its optimizer: names, replicas, values by rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from optimizers.groups import variable_path

_PART_BYTES = 1 << 24  # of a table, read at a time


def named_variables(model: Any, optimizer: Any = None) -> dict[str, Any]:
    """Everything that training changes, by names that stay the same."""
    found = [("model", variable) for variable in model.variables]
    if optimizer is not None:
        found += [("optimizer", variable) for variable in optimizer.variables]
    named: dict[str, Any] = {}
    for owner, variable in found:
        name = f"{owner}/{variable_path(variable)}"
        while name in named:  # layers of one name
            name += "'"
        named[name] = variable
    return named


def local_replica(variable: Any) -> Any:
    """The tf.Variable behind a Keras variable, of the first device here."""
    return _replicas(variable)[0]


def _replicas(variable: Any) -> Any:
    value = getattr(variable, "value", variable)
    if not isinstance(value, tf.Variable):  # a method, of a tf.Variable
        value = variable
    return getattr(value, "values", (value,))


def rows_of(variable: Any) -> Iterator[Any]:
    """The values of a variable, a few rows at a time, as NumPy arrays."""
    value = local_replica(variable)
    rows, per_part = rows_per_part(value.shape, numpy_dtype(value).itemsize)
    if rows <= per_part:
        yield value.numpy()
        return
    for start in range(0, rows, per_part):
        # Reading a variable whole copies it once a sparse update was made.
        yield tf.raw_ops.ResourceGather(
            resource=value.handle,
            indices=tf.range(start, min(start + per_part, rows)),
            dtype=value.dtype,
        ).numpy()


def rows_per_part(shape: Sequence[int], itemsize: int) -> tuple[int, int]:
    """Rows of an array, and how many of them are read or written at a time."""
    if not len(shape) or not shape[0]:
        return 0, 0
    row = int(np.prod(shape[1:], dtype=np.int64)) * itemsize
    return int(shape[0]), max(1, _PART_BYTES // max(1, row))


def numpy_dtype(variable: Any) -> Any:
    """The NumPy dtype of a variable's values."""
    return np.dtype(tf.as_dtype(variable.dtype).as_numpy_dtype)


def scatter_rows(variable: Any, rows: Any, values: Any) -> None:
    """Sets some rows of a variable, on each device here."""
    if not len(rows):
        return
    for replica in _replicas(variable):
        tf.raw_ops.ResourceScatterUpdate(
            resource=replica.handle,
            indices=rows,
            updates=tf.cast(values, replica.dtype),
        )


def assign_rows(variable: Any, start: int, values: Any) -> None:
    """Sets rows of a variable from row `start` on, on each device here."""
    for replica in _replicas(variable):
        # variable[a:b].assign reads the whole of it first.
        tf.raw_ops.ResourceStridedSliceAssign(
            ref=replica.handle,
            begin=[start],
            end=[start + len(values)],
            strides=[1],
            value=values,
        )
