"""Embedding tables in fewer bits, for exports: stock ops alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from models.errors import InputError
from models.layers.embedding import Fused
from models.variables import assign_rows, rows_of

Precision = Literal["float32", "bfloat16", "int8"]
_LARGEST = 127


class CompactTable(tf.Module):
    """A table that is read as float32 and kept in fewer bits.

    bfloat16 keeps 8 bits of each value. int8 keeps value / scale, rounded to
    -127 to 127, with the scale of a row |greatest value| / 127, float32: an
    error of half a scale at most. Rows are read, never the whole table.

    Args:
        table: variable [rows, dim].
        precision: bfloat16 or int8.
    """

    def __init__(self, table: Any, precision: Precision) -> None:
        super().__init__()
        rows, dim = table.shape
        kept = tf.int8 if precision == "int8" else tf.bfloat16
        self.values = tf.Variable(tf.zeros([rows, dim], kept), trainable=False)
        self.scale: tf.Variable | None = None
        if precision == "int8":
            self.scale = tf.Variable(tf.zeros([rows, 1]), trainable=False)
        start = 0
        for part in rows_of(table):
            part = np.asarray(part, np.float32)
            if self.scale is not None:
                scale = np.abs(part).max(1, keepdims=True) / _LARGEST
                assign_rows(self.scale, start, tf.constant(scale))
                part = np.rint(part / np.where(scale > 0, scale, 1))
            assign_rows(self.values, start, tf.cast(part, kept))
            start += len(part)

    def rows(self, ids: tf.Tensor) -> tf.Tensor:
        """Rows [R, dim] of ids [R], float32."""
        found = tf.cast(tf.gather(self.values, ids), tf.float32)
        if self.scale is None:
            return found
        return found * tf.gather(self.scale, ids)

    @property
    def bytes(self) -> int:
        """Size of all values."""
        parts = [self.values] + ([] if self.scale is None else [self.scale])
        return sum(p.shape.num_elements() * p.dtype.size for p in parts)


def compact(model: Any, precision: Precision) -> dict[str, int]:
    """Lets the tables of a model be read in fewer bits from now on.

    Of int8 the weights of single ids are left as they are: a scale for each
    would take more room than it saves.

    Returns:
        `before` and `after`: bytes of all tables.

    Raises:
        InputError: the model has no tables of ours.
    """
    if next(tables_of(model), None) is None:
        raise InputError(
            f"export.tables: received {precision!r}; accepted for a model"
            " without tables of ours: float32"
        )
    before = after = 0
    for layer in tables_of(model):
        size = layer.table.shape.num_elements() * 4
        before += size
        if precision == "int8" and layer.lookup.dim == 1:
            after += size
            continue
        layer.compact = CompactTable(layer.table, precision)
        after += layer.compact.bytes
    return {"before": before, "after": after}


def tables_of(model: Any) -> Iterator[Fused]:
    """The fused tables of a model of ours."""
    wide = getattr(model, "wide", None)
    for layer in (wide, *getattr(getattr(model, "deep", None), "tables", ())):
        if isinstance(layer, Fused):
            yield layer


def variables_of(model: Any) -> Mapping[str, list[Any]]:
    """The tf.Variables that a model reads, without compacted tables."""
    replaced = [
        layer.table for layer in tables_of(model) if layer.compact is not None
    ]
    gone = {id(table) for table in replaced}
    variables = getattr(model, "variables", ())  # a plain function has none
    kept = [v for v in variables if id(v) not in gone]
    compacted = [
        part
        for layer in tables_of(model)
        if layer.compact is not None
        for part in layer.compact.variables
    ]
    values = [
        v.value if isinstance(getattr(v, "value", None), tf.Variable) else v
        for v in kept
    ]
    return {"weights": values, "compacted": compacted}
