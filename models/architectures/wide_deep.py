"""Wide and deep: a weight for each id beside an MLP over embeddings.

Cheng et al., "Wide & Deep Learning for Recommender Systems",
arXiv 1606.07792.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from models.architectures.base import Deep, Network, flat
from models.config.architectures import ModelConfig
from models.preprocessing.input_layout import Layout


class Curves(keras.layers.Layer):
    """A curve of each number: a sum of ramps, which a linear start gives.

    The ramp i of a number rises from 0 at `left` to its weight at
    `left` + `width`. Without a linear start the curves are flat.

    Args:
        numbers: how many there are.
        pieces: ramps of each.
    """

    def __init__(self, numbers: int, pieces: int) -> None:
        super().__init__(name="curves", dtype="float32")
        self._shape = (numbers, pieces)

    def build(self, _: Any = None) -> None:
        """Makes the variables, [numbers, pieces] each."""
        self.left, self.width, self.weight = (
            self.add_weight(
                shape=self._shape,
                initializer=initializer,
                trainable=name == "weight",
                name=name,
            )
            for name, initializer in (
                ("left", "zeros"), ("width", "ones"), ("weight", "zeros"),
            )
        )  # fmt: skip
        self.built = True

    def give(self, left: Any, width: Any, weight: Any) -> None:
        """Gives the curves, and keeps them."""
        self.left.assign(left)
        self.width.assign(width)
        self.weight.assign(weight)
        self.weight.trainable = False

    def call(self, numbers: tf.Tensor) -> tf.Tensor:
        """Sum of the curves, float32 [N], at numbers [N, D]."""
        x = tf.cast(numbers, tf.float32)[:, :, None]
        shares = tf.clip_by_value((x - self.left) / self.width, 0.0, 1.0)
        return tf.reduce_sum(shares * self.weight, [1, 2])


class WeighedNumbers(Deep):
    """A `Deep` that adds a weight, or a curve, of each number to the logit."""

    def __init__(
        self, layout: Layout, config: ModelConfig, base_rate: float
    ) -> None:
        super().__init__(layout, config, base_rate)
        self.curves = None
        if self.numbers and layout.pieces:
            self.curves = Curves(self.numbers, layout.pieces)

    def build_interaction(self) -> int:
        """Makes the weights."""
        if self.curves is not None:
            self.curves.build()
        if self.numbers:
            self.weight = self.add_weight(
                shape=(self.numbers,), initializer="zeros", name="weight"
            )
        return super().build_interaction()

    def interaction(
        self, tables: list[tf.Tensor], numbers: tf.Tensor | None
    ) -> tuple[tf.Tensor, Any]:
        """Embeddings and numbers; the numbers' part of the logit."""
        x = flat(tables, numbers)
        if numbers is None:
            return x, 0.0
        products = tf.cast(numbers, tf.float32) * tf.cast(
            self.weight, tf.float32
        )
        logit = tf.reduce_sum(products, 1)
        if self.curves is not None:
            logit += self.curves(numbers)
        return x, logit


def build(layout: Layout, config: ModelConfig, base_rate: float) -> keras.Model:
    """The model of `model.name: wide_deep`.

    The wide part sees every id, every cross and every number, which may have
    a curve; the deep part the embeddings and the numbers.
    """
    deep = WeighedNumbers(layout, config, base_rate)
    return Network("wide_deep", layout, layout.ids, deep)
