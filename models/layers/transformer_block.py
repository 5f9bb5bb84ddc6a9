"""One transformer block over sequences of different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import keras
import tensorflow as tf

from models.layers.list_rows import at_rows

_FAR = 1e9
_EPSILON = 1e-6
_CLASSES = 4  # of rows, by their lengths


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
        lengths: tf.Tensor,
        *,
        length: int,
        by_length: bool = False,
        training: bool = False,
    ) -> tf.Tensor:
        """[T, width]. Only the attention is computed with padding.

        Args:
            tokens: of all rows, [T, width], in whole blocks.
            places: row * length + place in the row, int64 [T]; -1: of no row.
            lengths: tokens of each row, int64 [N].
            length: places of a row.
            by_length: pad rows to the greatest length of their class. Of even
                lengths half the scores are left. XLA has no such shapes.
            training: drop some outputs.
        """
        classes = [(0, length)]
        if by_length:
            step = -(-length // _CLASSES)
            ends = [*range(step, length, step), length]
            classes = list(pairwise([0, *ends]))
        attended = self._attend(tokens, places, lengths, length, classes)
        x = self.norms[0](tokens + self.drop(attended, training=training))
        forward = x
        for layer in self.forward:
            forward = layer(forward)
        return self.norms[1](x + self.drop(forward, training=training))

    def _attend(
        self,
        tokens: tf.Tensor,
        places: tf.Tensor,
        lengths: tf.Tensor,
        length: int,
        classes: Sequence[tuple[int, int]],
    ) -> tf.Tensor:
        kernels = [layer.kernel for layer in self.projections]
        kernels = [tf.convert_to_tensor(kernel) for kernel in kernels]
        projected = tokens @ tf.concat(kernels, 1)
        if len(classes) == 1:
            count = tf.size(lengths, tf.int64)
            found = self._attention(projected, places, count, length)
            return self.joined(at_rows(found, places))
        rows = tf.where(places < 0, places, places // length)
        parts, at, before = [], tf.zeros_like(places), 0
        for low, high in classes:
            there = (lengths > low) & (lengths <= high)
            number = tf.cumsum(tf.cast(there, tf.int64))
            row = at_rows(tf.where(there, number - 1, -1), rows)
            inside = (row >= 0) & (rows >= 0)
            place = tf.where(inside, row * high + places % length, -1)
            # A gradient cannot be gathered from nothing.
            count = tf.maximum(tf.math.count_nonzero(there), 1)
            parts.append(self._attention(projected, place, count, high))
            at += tf.where(inside, before + place, 0)
            before += count * high
        return self.joined(at_rows(tf.concat(parts, 0), at))

    def _attention(
        self, projected: tf.Tensor, places: tf.Tensor, count: Any, length: int
    ) -> tf.Tensor:
        """[count * length, heads * depth], of `count` rows."""
        heads, depth = self._heads, self._depth
        found = spread(projected, places, count * length)
        found = tf.reshape(found, [count, length, 3, heads, depth])
        query, key, value = tf.unstack(
            tf.transpose(found, [2, 0, 3, 1, 4])
        )  # [count, heads, length, depth]
        query *= depth**-0.5
        scores = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32)
        there = spread(tf.ones_like(places, tf.float32), places, count * length)
        # Where nothing is, the score is far below all others.
        missing = (tf.reshape(there, [count, 1, 1, length]) - 1.0) * _FAR
        weights = tf.cast(tf.nn.softmax(scores + missing), value.dtype)
        found = tf.transpose(weights @ value, [0, 2, 1, 3])
        return tf.reshape(found, [count * length, heads * depth])


@tf.custom_gradient
def spread(values: tf.Tensor, places: tf.Tensor, size: Any) -> Any:
    """[size, ...] with `values` [T, ...] at their places, else zero."""

    def gradient(upstream: tf.Tensor) -> tuple[Any, None, None]:
        # TensorFlow's own takes five passes over [T, ...].
        nothing = tf.zeros_like(upstream[:1])
        at = tf.where(places < 0, tf.cast(size, places.dtype), places)
        return tf.gather(tf.concat([upstream, nothing], 0), at), None, None

    return tf.math.unsorted_segment_sum(values, places, size), gradient


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
