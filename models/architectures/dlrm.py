"""DLRM: dot products of all pairs of embeddings, then an MLP.

Naumov et al., "Deep Learning Recommendation Model for Personalization and
Recommendation Systems", arXiv 1906.00091.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras_rs.layers import DotInteraction

from models.architectures.base import Fields, Network, build_in_order
from models.config.architectures import DlrmConfig
from models.layers.mlp import apply_layers, dense_layers
from models.preprocessing.input_layout import Layout


class Dotted(Fields):
    """A `Fields` whose hidden layers see the dot products.

    The numbers go through the bottom layers, to one more embedding, which the
    hidden layers see too. Where there are no numbers they see the embeddings
    instead: with two features there is but one product.
    """

    def __init__(
        self, layout: Layout, config: DlrmConfig, base_rate: float
    ) -> None:
        super().__init__(layout, config, base_rate)
        self.bottom = []
        if self.numbers:
            units = (*config.bottom, self.dim)
            self.bottom = dense_layers(
                keras.layers, "bottom", units, config, dropout=False
            )
        self.dots = DotInteraction(name="dots")

    def build_interaction(self) -> int:
        """Makes projections and bottom layers."""
        super().build_interaction()
        build_in_order(self.bottom, self.numbers)
        count = self.fields + bool(self.numbers)
        beside = self.dim * (1 if self.numbers else self.fields)
        return count * (count - 1) // 2 + beside

    def interaction(
        self, tables: list[tf.Tensor], numbers: tf.Tensor | None
    ) -> tuple[tf.Tensor, Any]:
        """[N, dim + pairs], or [N, fields · dim + pairs] without numbers."""
        fields = []
        if tables:
            fields = tf.unstack(self.of_one_width(tables), axis=1)
        beside = fields
        if numbers is not None:
            beside = [apply_layers(self.bottom, numbers)]
            fields = [*beside, *fields]
        if len(fields) > 1:
            beside = [*beside, self.dots(fields)]
        return tf.concat(beside, 1), 0.0


def build(layout: Layout, config: DlrmConfig, base_rate: float) -> keras.Model:
    """The model of `model.name: dlrm`."""
    deep = Dotted(layout, config, base_rate)
    return Network("dlrm", layout, layout.crosses, deep)
