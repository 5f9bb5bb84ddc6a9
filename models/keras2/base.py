"""Base of the models of TensorFlow Recommenders: Keras 2 all through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from models.config.architectures import ModelConfig
from models.layers.embedding import Fused, by_dim
from models.layers.mlp import apply_layers, dense_layers, head
from models.preprocessing.dummy_rows import empty_rows
from models.preprocessing.input_layout import DENSE, Layout


class FusedTable(Fused, tf_keras.layers.Layer):
    """A `Fused` as a Keras 2 layer."""

    def build(self, _: Any) -> None:
        """Makes the table."""
        self.make(experimental_autocast=False)


class Deep(tf_keras.layers.Layer):
    """Embeddings and numbers, an interaction of them, hidden layers.

    A subclass makes the interaction's layers and gives, in `interaction`,
    what the hidden layers see.
    """

    def __init__(
        self, layout: Layout, config: ModelConfig, base_rate: float
    ) -> None:
        # The precision of the run, which is set for Keras 3.
        precision = keras.config.dtype_policy().name
        super().__init__(name="deep", dtype=precision)
        self.numbers = len(layout.dense)
        self.tables = [
            FusedTable(
                layout,
                features,
                dim,
                l2=config.embedding_l2,
                name=f"embedding_{dim}",
                dtype=precision,
            )
            for dim, features in by_dim(layout.ids).items()
        ]
        self.hidden = self.dense_layers("hidden", config.hidden, config)
        self.out = head(tf_keras.layers, tf_keras.initializers, base_rate)

    def dense_layers(
        self,
        prefix: str,
        units: Sequence[int],
        config: ModelConfig,
        dropout: bool = True,
    ) -> list[Any]:
        """Hidden layers of this layer's precision."""
        precision = self.dtype_policy.name
        layers = tf_keras.layers
        return dense_layers(layers, prefix, units, config, dropout, precision)

    def interaction(
        self, tables: list[tf.Tensor], numbers: tf.Tensor | None
    ) -> tf.Tensor:
        """Input of the hidden layers, [N, width].

        Args:
            tables: [N, fields, dim] of each table, narrow ones first.
            numbers: [N, D], or None where there are none.
        """
        raise NotImplementedError

    def call(
        self, inputs: Mapping[str, Any], training: bool = False
    ) -> tf.Tensor:
        """Logits, float32 [N]."""
        numbers = None
        if self.numbers:
            numbers = tf.cast(inputs[DENSE], self.compute_dtype)
        tables = [table(inputs, training=training) for table in self.tables]
        x = self.interaction(tables, numbers)
        return tf.squeeze(self.out(apply_layers(self.hidden, x)), 1)


class Ranker(tfrs.Model):
    """Logits [N] of a click: weights of the crosses, and a deep part.

    A tfrs.Model with its Ranking task, so that it can be compiled and fitted
    on (inputs, label) too. Variables are named as those of
    `models.architectures.base.Network`.
    """

    def __init__(self, name: str, layout: Layout, deep: Deep) -> None:
        super().__init__(name=name)
        # dcn.Cross leaves the names of its own layers to Keras, which counts
        # them process-wide: variables would be called another way each time.
        tf_keras.backend.reset_uids()
        self.task = tfrs.tasks.Ranking(
            loss=tf_keras.losses.BinaryCrossentropy(from_logits=True)
        )
        self.wide = None
        if layout.crosses:
            self.wide = FusedTable(
                layout, layout.crosses, 1, stddev=0.0, name="wide"
            )
        self.deep = deep
        # Each part is called by itself, so that the names of its variables
        # begin with its own and not with the model's.
        example = empty_rows(layout, 1)
        self.deep(example)
        if self.wide is not None:
            self.wide(example)
        self.built = True

    def call(
        self, inputs: Mapping[str, Any], training: bool = False
    ) -> tf.Tensor:
        """Logits, float32 [N]."""
        logit = self.deep(inputs, training=training)
        if self.wide is not None:
            logit += tf.reduce_sum(self.wide(inputs), axis=[1, 2])
        return logit

    def compute_loss(self, inputs: Any, training: bool = False) -> tf.Tensor:
        """The task's loss of (inputs, label [N])."""
        features, labels = inputs
        logits = self(features, training=training)
        return self.task(labels=labels, predictions=logits)
