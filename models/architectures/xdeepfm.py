"""xDeepFM: a compressed interaction network beside hidden layers.

Lian et al., "xDeepFM: Combining Explicit and Implicit Feature Interactions
for Recommender Systems", arXiv 1803.05170. X⁰ are the embeddings of m fields,
and each row h of a layer is

    Xᵏ⁺¹ₕ = Σᵢⱼ Wₕᵢⱼ (Xᵏᵢ ⊙ X⁰ⱼ)

Layers have no activation, as the paper found best. The sums of all rows over
the embedding's values are a linear term of the logit. With `rank`, each Wₕ is
a sum of that many products of two vectors, and a layer costs

    Xᵏ⁺¹ₕ = Σᵣ (Uₕᵣ Xᵏ) ⊙ (Vₕᵣ X⁰)

which grows with m, not with its square.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import keras
import tensorflow as tf

from models.architectures.base import Fields, Network, flat
from models.config.architectures import XDeepFmConfig
from models.layers.embedding import STDDEV
from models.preprocessing.input_layout import Layout


class Compressed(Fields):
    """A `Fields` that adds the network's term to the logit.

    A number x is a field too: its embedding is x · v. The weights of ids are
    in the wide part.
    """

    def __init__(
        self, layout: Layout, config: XDeepFmConfig, base_rate: float
    ) -> None:
        super().__init__(layout, config, base_rate)
        self.maps, self.rank = config.maps, config.rank

    def build_interaction(self) -> int:
        """Makes the numbers' vectors, the layers and the linear term."""
        width = super().build_interaction()
        fields = self.fields + self.numbers
        if self.numbers:
            self.vector = self.add_weight(
                shape=(self.numbers, self.dim),
                initializer=keras.initializers.RandomNormal(
                    stddev=STDDEV, seed=2
                ),
                name="vector",
            )
        self.kernels = []
        for layer, (below, rows) in enumerate(pairwise([fields, *self.maps])):
            shapes = {"kernel": (below * fields, rows)}
            if self.rank is not None:
                rows *= self.rank
                shapes = {"u": (below, rows), "v": (fields, rows)}
            self.kernels.append(
                [
                    self.add_weight(
                        shape=shape,
                        initializer=keras.initializers.GlorotUniform(
                            seed=3 + 2 * layer + number
                        ),
                        name=f"map_{layer}_{name}",
                    )
                    for number, (name, shape) in enumerate(shapes.items())
                ]
            )
        self.linear = keras.layers.Dense(
            1, use_bias=False, name="linear", dtype="float32"
        )
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
        for rows, kernels in zip(self.maps, self.kernels, strict=True):
            if self.rank is None:
                pairs = x[:, :, :, None] * first[:, :, None, :]
                size = x.shape[2] * first.shape[2]
                pairs = tf.reshape(pairs, [-1, self.dim, size])
                x = _times(pairs, kernels[0])
            else:
                u, v = kernels
                parts = _times(x, u) * _times(first, v)
                parts = tf.reshape(parts, [-1, self.dim, rows, self.rank])
                x = tf.reduce_sum(parts, 3)  # [N, dim, rows]
            sums.append(tf.reduce_sum(tf.cast(x, tf.float32), 1))
        logit = tf.squeeze(self.linear(tf.concat(sums, 1)), 1)
        return flat(tables, numbers), logit


def _times(x: tf.Tensor, kernel: Any) -> tf.Tensor:
    """[N, dim, a] by [a, b], as one product of matrices."""
    rows = tf.reshape(x, [-1, x.shape[2]]) @ tf.cast(kernel, x.dtype)
    return tf.reshape(rows, [-1, x.shape[1], kernel.shape[1]])


def build(
    layout: Layout, config: XDeepFmConfig, base_rate: float
) -> keras.Model:
    """The model of `model.name: xdeepfm`."""
    deep = Compressed(layout, config, base_rate)
    return Network("xdeepfm", layout, layout.ids, deep)
