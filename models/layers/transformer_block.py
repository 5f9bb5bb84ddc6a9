"""One transformer block over sequences of different lengths."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from models.layers.list_rows import at_rows

_FAR = 1e9


class TransformerBlock(keras.layers.Layer):
    """Self-attention and a feed-forward layer, each with a residual.

    Chen et al., "Behavior Sequence Transformer for E-commerce Recommendation
    in Alibaba", arXiv 1905.06874:

        S = LayerNorm(x + Dropout(MultiHead(x)))
        F = LayerNorm(S + Dropout(LeakyReLU(S W1 + b1) W2 + b2))

    Args:
        width: of an item.
        heads: of the attention; each is width / heads wide, rounded up.
        dropout: share of the outputs that training drops.
    """

    def __init__(
        self, width: int, heads: int, dropout: float, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._width, self._heads = width, heads
        self._depth = -(-width // heads)
        inner = heads * self._depth
        layers = keras.layers
        self.projections = [
            layers.Dense(inner, use_bias=False, name=name)
            for name in ("query", "key", "value")
        ]
        self.joined = layers.Dense(width, use_bias=False, name="joined")
        # Outputs begin small, as embeddings do: predictions then begin at
        # the rate of clicks.
        self.norms = [
            layers.LayerNormalization(
                epsilon=1e-6,
                gamma_initializer=keras.initializers.Constant(scale),
                name=f"norm_{i}",
            )
            for i, scale in enumerate((1.0, 0.1))
        ]
        self.forward = [
            layers.Dense(4 * width, name="forward_0"),
            layers.LeakyReLU(0.2, name="leaky"),
            layers.Dense(width, name="forward_1"),
        ]
        self.drop = layers.Dropout(dropout, name="drop")

    def build(self, _: Any = None) -> None:
        """Makes the variables."""
        shape = (None, None, self._width)
        for layer in (*self.projections, *self.norms):
            layer.build(shape)
        self.joined.build((None, None, self._heads * self._depth))
        first, _, second = self.forward
        first.build(shape)
        second.build((None, None, 4 * self._width))
        self.built = True

    def call(
        self,
        tokens: tf.Tensor,
        places: tf.Tensor,
        *,
        count: tf.Tensor,
        length: int,
        training: bool = False,
    ) -> tf.Tensor:
        """[T, width]. Only the attention is computed with padding.

        Args:
            tokens: of all rows, [T, width], in whole blocks.
            places: row * length + place in the row, int64 [T]; -1: of no row.
            count: of rows.
            length: places of a row.
            training: drop some outputs.
        """
        attended = self._attend(tokens, places, count, length)
        x = self.norms[0](tokens + self.drop(attended, training=training))
        forward = x
        for layer in self.forward:
            forward = layer(forward)
        return self.norms[1](x + self.drop(forward, training=training))

    def _attend(
        self,
        tokens: tf.Tensor,
        places: tf.Tensor,
        count: tf.Tensor,
        length: int,
    ) -> tf.Tensor:
        heads, depth = self._heads, self._depth
        kernels = [layer.kernel for layer in self.projections]
        found = tokens @ tf.concat(
            [tf.convert_to_tensor(k) for k in kernels], 1
        )
        found = spread(found, places, count * length)
        found = tf.reshape(found, [-1, length, 3, heads, depth])
        query, key, value = tf.unstack(
            tf.transpose(found, [2, 0, 3, 1, 4])
        )  # [N, heads, length, depth]
        query *= depth**-0.5
        scores = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32)
        there = spread(tf.ones_like(places, tf.float32), places, count * length)
        # Where nothing is, the score is far below all others.
        missing = (tf.reshape(there, [-1, 1, 1, length]) - 1.0) * _FAR
        weights = tf.cast(tf.nn.softmax(scores + missing), value.dtype)
        found = tf.transpose(weights @ value, [0, 2, 1, 3])
        found = tf.reshape(found, [-1, heads * depth])
        return self.joined(at_rows(found, places))


def spread(values: tf.Tensor, places: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """[size, ...] with `values` [T, ...] at their places, else zero."""
    return tf.math.unsorted_segment_sum(values, places, size)
