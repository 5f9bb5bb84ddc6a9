"""One transformer block over sequences that are padded to one length."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


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
        self, items: tf.Tensor, there: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """[N, L, width]; zero at the padding.

        Args:
            items: [N, L, width].
            there: bool [N, L], false at the padding. No row is empty.
            training: drop some outputs.
        """
        attended = self._attend(items, there)
        x = self.norms[0](items + self.drop(attended, training=training))
        forward = x
        for layer in self.forward:
            forward = layer(forward)
        x = self.norms[1](x + self.drop(forward, training=training))
        return tf.where(there[:, :, None], x, tf.zeros_like(x))

    def _attend(self, items: tf.Tensor, there: tf.Tensor) -> tf.Tensor:
        shape = [-1, tf.shape(items)[1], self._heads, self._depth]
        query, key, value = (
            tf.transpose(tf.reshape(layer(items), shape), [0, 2, 1, 3])
            for layer in self.projections
        )  # [N, heads, L, depth]
        scores = tf.matmul(query, key, transpose_b=True)
        scores = tf.cast(scores, tf.float32) / self._depth**0.5
        mask = there[:, None, None, :]
        scores = tf.where(mask, scores, tf.fill([], scores.dtype.min))
        weights = tf.cast(tf.nn.softmax(scores), value.dtype)
        found = tf.transpose(weights @ value, [0, 2, 1, 3])
        flat = [-1, tf.shape(items)[1], self._heads * self._depth]
        return self.joined(tf.reshape(found, flat))
