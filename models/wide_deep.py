"""Wide and deep: a weight for each id beside an MLP over embeddings.

Cheng et al., "Wide & Deep Learning for Recommender Systems",
arXiv 1606.07792.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from models.config import ModelConfig
from models.layout import DENSE, IDS, LISTS, IdFeature, Layout, offsets


class FusedTable(keras.layers.Layer):
    """One table for several features: one gather a step.

    Row `offset(feature) + id` belongs to `id` of `feature`. Lists are pooled
    to their mean, an empty list to zero.
    """

    def __init__(
        self, layout: Layout, features: list[IdFeature], dim: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._first, self._rows = offsets({f.name: f.size for f in features})
        self._dim = dim
        self._columns = [
            (column, self._first[f.name])
            for column, f in enumerate(layout.single)
            if f.name in self._first
        ]
        self._lists = [
            (LISTS + f.name, self._first[f.name])
            for f in layout.lists
            if f.name in self._first
        ]

    @property
    def width(self) -> int:
        """Values a row of output: one embedding for each feature."""
        return self._dim * (len(self._columns) + len(self._lists))

    def build(self, stddev: float) -> None:
        """Makes the table; `stddev` 0 starts it at zero."""
        initializer = (
            keras.initializers.RandomNormal(stddev=stddev, seed=1)
            if stddev
            else "zeros"
        )
        # Rows are cast after the gather: casting the table would copy it.
        self.table = self.add_weight(
            shape=(self._rows, self._dim),
            initializer=initializer,
            name="table",
            autocast=False,
        )
        self.built = True

    def call(self, inputs: Mapping[str, Any]) -> tf.Tensor:
        """[N, width] from `ids` [N, F] and ragged `list_*` [N, (values)]."""
        parts, counts = [], []
        if self._columns:
            columns, first = zip(*self._columns, strict=True)
            ids = inputs[IDS]
            if columns != tuple(range(ids.shape[1])):
                ids = tf.gather(ids, columns, axis=1)
            parts.append(tf.reshape(ids + tf.constant(first, tf.int64), [-1]))
        for name, start in self._lists:
            parts.append(inputs[name].flat_values + start)
        counts = [tf.size(part) for part in parts]
        # tf.gather on the variable itself reads only the rows wanted, and
        # its gradient stays sparse.
        rows = tf.gather(self.table.value, tf.concat(parts, 0))
        rows = tf.cast(rows, self.compute_dtype)
        pieces = tf.split(rows, counts, num=len(counts))
        outputs = []
        if self._columns:
            outputs.append(
                tf.reshape(pieces.pop(0), [-1, len(self._columns) * self._dim])
            )
        for (name, _), piece in zip(self._lists, pieces, strict=True):
            ragged = inputs[name]
            total = tf.math.unsorted_segment_sum(
                piece, ragged.value_rowids(), ragged.nrows()
            )
            lengths = tf.cast(ragged.row_lengths(), piece.dtype)
            outputs.append(total / tf.maximum(lengths, 1.0)[:, None])
        return tf.concat(outputs, 1)


class WideDeep(keras.Model):
    """Logits [N] of a click.

    The wide part sees every id and every cross; the deep part the embeddings
    and the dense values. Variables are named wide/..., deep/..., for
    optimizer groups to match.
    """

    def __init__(
        self, layout: Layout, config: ModelConfig, base_rate: float
    ) -> None:
        super().__init__(name="wide_deep")
        self._has_dense = bool(layout.dense)
        self.wide = None
        if layout.ids:
            self.wide = FusedTable(layout, list(layout.ids), 1, name="wide")
            self.wide.build(0.0)
        # Sub-layers are built here and not in build(), where Keras would put
        # the model's name before wide/ and deep/.
        self.deep = Deep(layout, config, base_rate, name="deep")
        self.deep.build(None)
        self.built = True

    def call(
        self, inputs: Mapping[str, Any], training: bool = False
    ) -> tf.Tensor:
        """Logits, float32 [N]."""
        logit = self.deep(inputs, training=training)
        if self.wide is not None:
            logit += tf.reduce_sum(self.wide(inputs), axis=1)
        return tf.cast(logit, tf.float32)


class Deep(keras.layers.Layer):
    """Embeddings and dense values through an MLP to one logit."""

    def __init__(
        self,
        layout: Layout,
        config: ModelConfig,
        base_rate: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._dense = len(layout.dense)
        embedded = [f for f in layout.ids if f.dim]
        self.tables = [
            FusedTable(
                layout,
                [f for f in embedded if f.dim == dim],
                dim,
                name=f"embedding_{dim}",
            )
            for dim in sorted({f.dim for f in embedded})
        ]
        self.hidden = [
            keras.layers.Dense(units, activation="relu", name=f"hidden_{i}")
            for i, units in enumerate(config.hidden)
        ]
        self.dropout = keras.layers.Dropout(config.dropout)
        # With clicks as rare as they are, and a sign update that moves a
        # weight by the learning rate at most, a bias of 0 would take long.
        self.out = keras.layers.Dense(
            1,
            bias_initializer=keras.initializers.Constant(
                math.log(base_rate / (1 - base_rate))
            ),
            name="out",
        )

    def build(self, _: Any) -> None:
        """Makes all variables, so that their names begin with deep/."""
        width = self._dense
        for table in self.tables:
            table.build(0.05)
            width += table.width
        for layer in self.hidden:
            layer.build((None, width))
            width = layer.units
        self.out.build((None, width))
        self.built = True

    def call(
        self, inputs: Mapping[str, Any], training: bool = False
    ) -> tf.Tensor:
        """Logits [N]."""
        parts = [table(inputs) for table in self.tables]
        if self._dense:
            parts.append(tf.cast(inputs[DENSE], self.compute_dtype))
        x = tf.concat(parts, 1)
        for layer in self.hidden:
            x = self.dropout(layer(x), training=training)
        return tf.squeeze(self.out(x), 1)


def build(layout: Layout, config: ModelConfig, base_rate: float) -> keras.Model:
    """The model of `model.name: wide_deep`."""
    return WideDeep(layout, config, base_rate)
