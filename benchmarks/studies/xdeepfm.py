"""xDeepFM: a compressed interaction network beside hidden layers.

Lian et al., "xDeepFM: Combining Explicit and Implicit Feature Interactions
for Recommender Systems" (arXiv 1803.05170). With X⁰ the embeddings of m fields,
and ∘ the product of two vectors, each row of

    Xᵏ⁺¹ₕ = Σᵢⱼ Wₕᵢⱼ (Xᵏᵢ ∘ X⁰ⱼ)

has interactions of one degree more. Their sums over the embedding's values are
the input of a linear part of the logit. Layers have no activation, which the
paper found best. `model.name: benchmarks.studies.xdeepfm:build`, with
`model.maps: [32, 32]` the rows of each layer.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from models.architectures.base import Fields, Network, flat
from models.config.architectures import OwnConfig
from models.layers.embedding import STDDEV
from models.preprocessing.input_layout import Layout


class Compressed(Fields):
    """A `Fields` that adds the network's term to the logit."""

    def __init__(
        self, layout: Layout, config: OwnConfig, base_rate: float
    ) -> None:
        super().__init__(layout, config, base_rate)
        self.maps = [int(rows) for rows in config.options.get("maps", (32, 32))]

    def build_interaction(self) -> int:
        """Makes the numbers' vectors, W of each layer and the linear part."""
        width = super().build_interaction()
        fields = self.fields + self.numbers
        if self.numbers:
            normal = keras.initializers.RandomNormal(stddev=STDDEV, seed=2)
            self.vector = self.add_weight(
                shape=(self.numbers, self.dim), initializer=normal, name="v"
            )
        below = [fields, *self.maps]
        self.weights_of_maps = [
            self.add_weight(
                shape=(before * fields, rows),
                initializer=keras.initializers.GlorotUniform(seed=3 + layer),
                name=f"map_{layer}",
            )
            for layer, (before, rows) in enumerate(
                zip(below, self.maps, strict=False)
            )
        ]
        self.linear = keras.layers.Dense(1, use_bias=False, name="linear")
        self.linear.build((None, sum(self.maps)))
        return width

    def interaction(
        self, tables: list[tf.Tensor], numbers: tf.Tensor | None
    ) -> tuple[tf.Tensor, Any]:
        """Embeddings and numbers; the logit of the network."""
        fields = [self.of_one_width(tables)] if tables else []
        if numbers is not None:
            fields.append(numbers[:, :, None] * self.vector)
        first = tf.transpose(tf.concat(fields, 1), [0, 2, 1])  # [N, dim, m]
        x, sums = first, []
        for weight in self.weights_of_maps:
            pairs = x[:, :, :, None] * first[:, :, None, :]
            rows = tf.reshape(pairs, [-1, weight.shape[0]])  # [N dim, H m]
            x = tf.reshape(rows @ weight, [-1, self.dim, weight.shape[1]])
            sums.append(tf.reduce_sum(x, 1))
        logit = tf.squeeze(self.linear(tf.concat(sums, 1)), 1)
        return flat(tables, numbers), tf.cast(logit, tf.float32)


def build(layout: Layout, config: OwnConfig, base_rate: float) -> keras.Model:
    """The model of `model.name: benchmarks.studies.xdeepfm:build`."""
    deep = Compressed(layout, config, base_rate)
    return Network("xdeepfm", layout, layout.ids, deep)
