"""DeepFM: a factorization machine and an MLP over the same embeddings.

Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR
Prediction", arXiv 1703.04247.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from models.architectures.base import Fields, Network, flat
from models.config.architectures import ModelConfig
from models.layers.embedding import STDDEV
from models.preprocessing.input_layout import Layout


class Factorized(Fields):
    """A `Fields` that adds the machine's terms to the logit.

    A number x is a field too: its embedding is x · v, and it has a weight.
    The weights of ids are in the wide part.
    """

    def build_interaction(self) -> int:
        """Makes the numbers' weights and vectors."""
        width = super().build_interaction()
        if self.numbers:
            self.weight = self.add_weight(
                shape=(self.numbers,), initializer="zeros", name="weight"
            )
            self.vector = self.add_weight(
                shape=(self.numbers, self.dim),
                initializer=keras.initializers.RandomNormal(
                    stddev=STDDEV, seed=2
                ),
                name="vector",
            )
        return width

    def interaction(
        self, tables: list[tf.Tensor], numbers: tf.Tensor | None
    ) -> tuple[tf.Tensor, Any]:
        """Embeddings and numbers; the logit of the machine."""
        x = flat(tables, numbers)
        fields = [self.of_one_width(tables)] if tables else []
        logit = 0.0
        if numbers is not None:
            fields.append(numbers[:, :, None] * self.vector)
            products = numbers * self.weight
            logit = tf.reduce_sum(tf.cast(products, tf.float32), 1)
        return x, logit + second_order(tf.concat(fields, 1))


def second_order(fields: tf.Tensor) -> tf.Tensor:
    """Sum over pairs of fields of their dot product, float32 [N].

    Half of (sum of the fields)² minus the sum of the squares: a difference of
    large numbers, so never in a half precision.
    """
    wide = tf.cast(fields, tf.float32)  # [N, F, dim]
    square = tf.square(tf.reduce_sum(wide, 1))
    return 0.5 * tf.reduce_sum(
        square - tf.reduce_sum(tf.square(wide), 1), axis=1
    )


def build(layout: Layout, config: ModelConfig, base_rate: float) -> keras.Model:
    """The model of `model.name: deepfm`."""
    deep = Factorized(layout, config, base_rate)
    return Network("deepfm", layout, layout.ids, deep)
