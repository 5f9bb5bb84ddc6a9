"""Logarithm that keeps the sign, with the same bits in every batch."""

from __future__ import annotations

import tensorflow as tf

from serving.manifest import BLOCK


def signed_log1p(values: tf.Tensor) -> tf.Tensor:
    """sign(x)·log(1 + |x|) of float32 values of any shape.

    TensorFlow computes what is left over behind the last whole vector of the
    processor in another loop, whose log1p differs in the last bit. So the
    values are filled up to whole blocks.
    """
    flat = tf.reshape(tf.abs(values), [-1])
    count = tf.shape(flat)[0]
    whole = tf.math.log1p(tf.pad(flat, [[0, -count % BLOCK]]))
    return tf.sign(values) * tf.reshape(whole[:count], tf.shape(values))
