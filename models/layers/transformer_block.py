"""One transformer block over sequences, read at the target."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from models.layers.activation_unit import softmax, whole_blocks
from models.layers.list_rows import at_rows

_EPSILON = 1e-6


class TransformerBlock(keras.layers.Layer):
    """Attention of a target to its sequence, and a feed-forward layer.

    The output at the target's position of the block of Chen et al., "Behavior
    Sequence Transformer for E-commerce Recommendation in Alibaba", arXiv
    1905.06874. There x are the tokens, target and items:

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
            Norm(scale, name=f"norm_{i}") for i, scale in enumerate((1.0, 0.1))
        ]
        self.forward = [
            layers.Dense(4 * width, name="forward_0"),
            layers.LeakyReLU(0.2, name="leaky"),
            layers.Dense(width, name="forward_1"),
        ]
        self.drop = layers.Dropout(dropout, name="drop")

    def build(self, _: Any = None) -> None:
        """Makes the variables."""
        shape = (None, self._width)
        for layer in (*self.projections, *self.norms):
            layer.build(shape)
        self.joined.build((None, self._heads * self._depth))
        first, _, second = self.forward
        first.build(shape)
        second.build((None, 4 * self._width))
        self.built = True

    def call(
        self,
        target: tf.Tensor,
        items: tf.Tensor,
        rows: tf.Tensor,
        training: bool = False,
    ) -> tf.Tensor:
        """Output at the target's position, [N, width].

        Args:
            target: [N, width].
            items: of all rows, [V, width].
            rows: row of each item, int64 [V]; -1: of none.
            training: drop some outputs.
        """
        attended = self._attend(target, items, rows)
        x = self.norms[0](target + self.drop(attended, training=training))
        forward = x
        for layer in self.forward:
            forward = layer(forward)
        return self.norms[1](x + self.drop(forward, training=training))

    def _attend(
        self, target: tf.Tensor, items: tf.Tensor, rows: tf.Tensor
    ) -> tf.Tensor:
        shape = [-1, self._heads, self._depth]
        of_query, of_key, of_value = (
            tf.convert_to_tensor(layer.kernel) for layer in self.projections
        )
        count = tf.shape(target, tf.int64)[0]
        rows = tf.concat([rows, tf.range(count, dtype=tf.int64)], 0)  # [T]
        tokens, _ = whole_blocks(tf.concat([items, target], 0))
        both = tokens @ tf.concat([of_key, of_value], 1)
        both = both[: tf.size(rows)]
        key, value = tf.split(both, 2, 1)
        query = target @ of_query * self._depth**-0.5
        products = tf.reshape(key * at_rows(query, rows), shape)
        scores = tf.reduce_sum(tf.cast(products, tf.float32), 2)
        weights = softmax(scores, rows, count)  # [T, heads]
        weights = tf.cast(weights, value.dtype)[:, :, None]
        weighed = tf.reshape(weights * tf.reshape(value, shape), tf.shape(key))
        return self.joined(tf.math.unsorted_segment_sum(weighed, rows, count))


class Norm(keras.layers.Layer):
    """Layer normalization, with its gradient in closed form.

    Ba et al., "Layer Normalization", arXiv 1607.06450. TensorFlow
    differentiates keras.layers.LayerNormalization op by op, in twice the time.

    Args:
        scale: of the outputs at the start.
    """

    def __init__(self, scale: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._scale = keras.initializers.Constant(scale)

    def build(self, shape: Any) -> None:
        """Makes the variables."""
        width = shape[-1]
        self.gamma = self.add_weight(
            shape=(width,), initializer=self._scale, name="gamma"
        )
        self.beta = self.add_weight(
            shape=(width,), initializer="zeros", name="beta"
        )
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Each row of `x` [T, width] with mean 0 and deviation 1, scaled."""
        x = _normalized(x)
        return x * tf.cast(self.gamma, x.dtype) + tf.cast(self.beta, x.dtype)


@tf.custom_gradient
def _normalized(x: tf.Tensor) -> Any:
    wide = tf.cast(x, tf.float32)
    away = wide - tf.reduce_mean(wide, 1, keepdims=True)
    variance = tf.reduce_mean(tf.square(away), 1, keepdims=True)
    inverse = tf.math.rsqrt(variance + _EPSILON)
    found = away * inverse

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        up = tf.cast(upstream, tf.float32)
        along = tf.reduce_mean(up * found, 1, keepdims=True)
        level = tf.reduce_mean(up, 1, keepdims=True)
        return tf.cast(inverse * (up - level - found * along), x.dtype)

    return tf.cast(found, x.dtype), gradient
