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


class WeighedNumbers(Deep):
    """A `Deep` that adds a weight of each number to the logit."""

    def build_interaction(self) -> int:
        """Makes the weights."""
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
        return x, tf.reduce_sum(products, 1)


def build(layout: Layout, config: ModelConfig, base_rate: float) -> keras.Model:
    """The model of `model.name: wide_deep`.

    The wide part sees every id, every cross and every number; the deep part
    the embeddings and the numbers.
    """
    deep = WeighedNumbers(layout, config, base_rate)
    return Network("wide_deep", layout, layout.ids, deep)
