"""DLRM of TensorFlow Recommenders: `models.architectures.dlrm` in Keras 2."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras
from tensorflow_recommenders.layers.feature_interaction import DotInteraction

from models.config.architectures import TfrsDlrmConfig
from models.keras2.base import Deep, Ranker
from models.layers.embedding import by_dim
from models.layers.mlp import apply_layers, triangle
from models.preprocessing.input_layout import Layout


class Dotted(Deep):
    """A `Deep` over dot products, as `models.architectures.dlrm` has them."""

    def __init__(
        self, layout: Layout, config: TfrsDlrmConfig, base_rate: float
    ) -> None:
        super().__init__(layout, config, base_rate)
        dims = list(by_dim(layout.ids))
        dim = max(dims, default=16)
        self.projections = [
            tf_keras.layers.Dense(
                dim,
                use_bias=False,
                name=f"project_{narrow}",
                dtype=self.dtype_policy.name,
            )
            for narrow in dims
            if narrow != dim
        ]
        self.bottom = []
        if self.numbers:
            units = (*config.bottom, dim)
            self.bottom = self.dense_layers(
                "bottom", units, config, dropout=False
            )
        # Without skip_gather it picks the pairs with a boolean mask, whose
        # size XLA cannot know; so it gives all and we pick.
        self.dots = DotInteraction(
            skip_gather=True, name="dots", dtype=self.dtype_policy.name
        )

    def interaction(
        self, tables: list[tf.Tensor], numbers: tf.Tensor | None
    ) -> tf.Tensor:
        """[N, dim + pairs], or [N, fields · dim + pairs] without numbers."""
        narrow = zip(self.projections, tables, strict=False)
        parts = [layer(table) for layer, table in narrow]
        parts += tables[len(parts) :]
        fields = tf.unstack(tf.concat(parts, 1), axis=1) if parts else []
        beside = fields
        if numbers is not None:
            beside = [apply_layers(self.bottom, numbers)]
            fields = [*beside, *fields]
        if len(fields) > 1:
            pairs = triangle(len(fields))
            beside = [*beside, tf.gather(self.dots(fields), pairs, axis=1)]
        return tf.concat(beside, 1)


def build(layout: Layout, config: TfrsDlrmConfig, base_rate: float) -> Any:
    """The model of `model.name: tfrs_dlrm`."""
    deep = Dotted(layout, config, base_rate)
    return Ranker("tfrs_dlrm", layout, deep)
