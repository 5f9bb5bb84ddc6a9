"""An exported model that only Python restores, called by its own functions."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from serving.columns import Array
from serving.session import Call


def load(folder: Path, names: Iterable[str]) -> tuple[Any, dict[str, Call]]:
    """The object that holds the weights, and a call of each signature."""
    # The signatures hold weak references to the object's variables.
    loaded = tf.saved_model.load(str(folder))
    return loaded, {name: _packed(loaded.signatures[name]) for name in names}


def _packed(function: Any) -> Call:
    """Calls a function with a matrix a dtype: an argument costs 20 µs.

    The op is called itself, as Python's wrapper costs as much again.
    """
    groups: dict[tf.DType, list[str]] = {}
    for name, spec in sorted(function.structured_input_signature[1].items()):
        groups.setdefault(spec.dtype, []).append(name)

    @tf.function(
        input_signature=[
            tf.TensorSpec([len(names), None], dtype)
            for dtype, names in groups.items()
        ],
        autograph=False,
    )
    def unpacked(*matrices: tf.Tensor) -> dict[str, tf.Tensor]:
        columns: dict[str, tf.Tensor] = {}
        for names, matrix in zip(groups.values(), matrices, strict=True):
            columns |= zip(names, tf.unstack(matrix, len(names)), strict=True)
        found: dict[str, tf.Tensor] = function(**columns)
        return found

    called = unpacked.get_concrete_function()
    captured = list(called.captured_inputs)
    types = [tensor.dtype for tensor in called.outputs]
    outputs = sorted(called.structured_outputs)
    layout = [(t.as_numpy_dtype, names) for t, names in groups.items()]

    def call(columns: Mapping[str, Array]) -> dict[str, Array]:
        rows = len(next(iter(columns.values())))
        matrices = []
        for dtype, names in layout:
            matrix = np.empty((len(names), rows), dtype)
            for row, name in enumerate(names):
                matrix[row] = columns[name]
            matrices.append(tf.constant(matrix))
        found = tf.raw_ops.StatefulPartitionedCall(
            args=[*matrices, *captured], Tout=types, f=called.name
        )
        return {
            name: tensor.numpy()
            for name, tensor in zip(outputs, found, strict=True)
        }

    return call
