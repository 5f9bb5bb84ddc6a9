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
from models.layout import DENSE, Layout
from models.tables import STDDEV, FusedTable, by_dim


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
            self.wide = FusedTable(
                layout, layout.ids, 1, shared=False, name="wide"
            )
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
            logit += tf.reduce_sum(self.wide(inputs), axis=[1, 2])
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
        self.tables = [
            FusedTable(layout, features, dim, name=f"embedding_{dim}")
            for dim, features in by_dim(layout.ids).items()
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
            table.build(STDDEV)
            width += table.lookup.fields * table.lookup.dim
        for layer in self.hidden:
            layer.build((None, width))
            width = layer.units
        self.out.build((None, width))
        self.built = True

    def call(
        self, inputs: Mapping[str, Any], training: bool = False
    ) -> tf.Tensor:
        """Logits [N]."""
        parts = [
            tf.reshape(table(inputs), [-1, t.fields * t.dim])
            for table, t in ((t, t.lookup) for t in self.tables)
        ]
        if self._dense:
            parts.append(tf.cast(inputs[DENSE], self.compute_dtype))
        x = tf.concat(parts, 1)
        for layer in self.hidden:
            x = self.dropout(layer(x), training=training)
        return tf.squeeze(self.out(x), 1)


def build(layout: Layout, config: ModelConfig, base_rate: float) -> keras.Model:
    """The model of `model.name: wide_deep`."""
    return WideDeep(layout, config, base_rate)
