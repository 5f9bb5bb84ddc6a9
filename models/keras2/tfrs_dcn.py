"""DCN V2 of TensorFlow Recommenders: `models.architectures.dcn_v2` in Keras 2."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow_recommenders.layers.feature_interaction import dcn

from models.architectures.base import flat
from models.config.architectures import TfrsDcnConfig
from models.keras2.base import Deep, Ranker
from models.preprocessing.input_layout import Layout


class Crossed(Deep):
    """A `Deep` whose hidden layers see the last cross layer."""

    def __init__(
        self, layout: Layout, config: TfrsDcnConfig, base_rate: float
    ) -> None:
        super().__init__(layout, config, base_rate)
        self.crosses = [
            dcn.Cross(
                config.projection_dim,
                name=f"cross_{i}",
                dtype=self.dtype_policy.name,
            )
            for i in range(config.cross_layers)
        ]

    def interaction(
        self, tables: list[tf.Tensor], numbers: tf.Tensor | None
    ) -> tf.Tensor:
        """[N, values of all embeddings and numbers]."""
        x0 = x = flat(tables, numbers)
        for layer in self.crosses:
            x = layer(x0, x)
        return x


def build(layout: Layout, config: TfrsDcnConfig, base_rate: float) -> Any:
    """The model of `model.name: tfrs_dcn`."""
    deep = Crossed(layout, config, base_rate)
    return Ranker("tfrs_dcn", layout, deep)
