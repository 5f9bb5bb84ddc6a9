"""Attention of a target to each item of a sequence, without padding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import keras
import tensorflow as tf

from models.layers.embedding import segment_exp
from models.layers.list_rows import at_rows
from serving.manifest import BLOCK


class ActivationUnit(keras.layers.Layer):
    """Sum of a sequence's items, each by its weight for the target.

    Zhou et al., "Deep Interest Network for Click-Through Rate Prediction",
    arXiv 1706.06978: v = sum of a(q, k) · k over the items, where a is a small
    network of [q, k, q - k, q * k] with PReLU. As in the paper its weights are
    not normalized, so that the sum tells how strong an interest is. Numbers
    beside the items are further inputs of a, without effect at the start: they
    are larger than embeddings, and would drown them.

    Args:
        units: of its layers, from the inputs up.
        softmax: normalize the weights of a sequence.
    """

    def __init__(
        self, units: Sequence[int], softmax: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._units = tuple(units)
        self._softmax = softmax

    def build(self, width: int, numbers: int = 0) -> None:
        """Makes the variables.

        Args:
            width: of target and items.
            numbers: beside each item.
        """
        self._width = width
        widths = (4 * width + numbers, *self._units)
        self.kernels: list[Any] = []
        self.biases: list[Any] = []
        self.slopes: list[Any] = []
        for i, (inputs, units) in enumerate(pairwise(widths)):
            self.kernels.append(
                self.add_weight(
                    shape=(inputs, units),
                    initializer=_without_effect(0 if i else numbers),
                    name=f"kernel_{i}",
                )
            )
            for made, name, start in (
                (self.biases, "bias", 0.0),
                (self.slopes, "slope", 0.25),
            ):
                made.append(
                    self.add_weight(
                        shape=(units,),
                        initializer=keras.initializers.Constant(start),
                        name=f"{name}_{i}",
                    )
                )
        self.score = self.add_weight(shape=(widths[-1], 1), name="score")
        # It begins as the plain sum: with weights near 0 hardly any gradient
        # would reach the items.
        self.score_bias = self.add_weight(
            shape=(1,), initializer="ones", name="score_bias"
        )
        self.built = True

    def call(
        self,
        target: tf.Tensor,
        items: tf.Tensor,
        rows: tf.Tensor,
        numbers: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Interest in the target, [N, width]; zero without items.

        Args:
            target: [N, width].
            items: of all sequences, [V, width].
            rows: whose sequence each is of, int64 [V]; -1: of none.
            numbers: [V, numbers].
        """
        weights = self.weigh(target, items, rows, numbers)[:, None]
        return tf.math.unsorted_segment_sum(
            tf.cast(weights, items.dtype) * items, rows, tf.shape(target)[0]
        )

    def weigh(
        self,
        target: tf.Tensor,
        items: tf.Tensor,
        rows: tf.Tensor,
        numbers: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Weight of each item, [V]; arguments as of `call`."""
        # The first layer without its input: by parts of the kernel, what only
        # the target decides is computed once a row.
        of_target, of_item, of_difference, of_product, of_numbers = tf.split(
            tf.convert_to_tensor(self.kernels[0]), [self._width] * 4 + [-1], 0
        )
        parts = [items, items * at_rows(target, rows)]
        kernel = [of_item - of_difference, of_product]
        if numbers is not None:
            parts.append(numbers)
            kernel.append(of_numbers)
        of_row = target @ (of_target + of_difference) + self.biases[0]
        inputs, missing = whole_blocks(tf.concat(parts, 1))
        x = inputs @ tf.concat(kernel, 0)
        x += tf.pad(at_rows(of_row, rows), missing)
        x = _prelu(x, self.slopes[0])
        for kernel_, bias, slope in zip(
            self.kernels[1:], self.biases[1:], self.slopes[1:], strict=True
        ):
            x = _prelu(x @ kernel_ + bias, slope)
        scores = tf.squeeze(x @ self.score, 1) + self.score_bias
        scores = scores[: tf.shape(items)[0]]
        if not self._softmax:
            return scores
        return softmax(tf.cast(scores, tf.float32), rows, tf.shape(target)[0])


def _without_effect(last: int) -> Any:
    """Initializer of a kernel whose `last` inputs begin with weights of 0."""

    def make(shape: Any, dtype: Any = None) -> Any:
        inputs, units = shape
        glorot = keras.initializers.GlorotUniform()
        first = glorot((inputs - last, units), dtype)
        return tf.concat([first, tf.zeros([last, units], first.dtype)], 0)

    return make


def softmax(scores: tf.Tensor, rows: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Softmax of the scores [V] of each row."""
    exps = segment_exp(scores, rows, count)
    sums = tf.math.unsorted_segment_sum(exps, rows, count)
    # The highest weighs 1, so a sum below 1 is that of a row without scores.
    return exps / at_rows(tf.maximum(sums, 1.0), rows)


def _prelu(x: tf.Tensor, slope: Any) -> tf.Tensor:
    return tf.nn.relu(x) - slope * tf.nn.relu(-x)


def whole_blocks(values: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Values [V, D] up to a whole block, and the padding for it.

    A matrix product gives a row the same bits in every batch of whole blocks.
    """
    missing = [[0, -tf.shape(values)[0] % BLOCK], [0, 0]]
    return tf.pad(values, missing), missing
