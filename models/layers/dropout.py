"""Dropout for Keras 2 whose state is a variable, as in Keras 3."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras


class Dropout(tf_keras.layers.Layer):
    """As tf_keras.layers.Dropout; a checkpoint holds where it is.

    Args:
        rate: share of the values that a training step leaves out.
    """

    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._rate = rate
        seed = tf.random.uniform([2], maxval=1 << 30, dtype=tf.int64)
        self.seed = tf.Variable(seed, trainable=False, name="seed")

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """`x`, and in training other values left out at each call."""
        if not training:
            return x
        seed = self.seed.assign_add([0, 1])
        return tf.nn.experimental.stateless_dropout(x, self._rate, seed)
