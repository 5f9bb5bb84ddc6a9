"""DCN V2: cross layers over embeddings and numbers, then an MLP.

Wang et al., "DCN V2: Improved Deep & Cross Network", arXiv 2008.13535, the
stacked structure: x₀ are embeddings and numbers, and

    xₖ₊₁ = x₀ ⊙ (W xₖ + b) + xₖ

with W of full rank, or U V of rank `projection_dim`.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras_rs.layers import FeatureCross

from models.architectures.base import Deep, Network, flat
from models.config.architectures import DcnConfig
from models.preprocessing.input_layout import Layout


class Crossed(Deep):
    """A `Deep` whose hidden layers see the last cross layer."""

    def __init__(
        self, layout: Layout, config: DcnConfig, base_rate: float
    ) -> None:
        super().__init__(layout, config, base_rate)
        self.crosses = [
            FeatureCross(config.projection_dim, name=f"cross_{i}")
            for i in range(config.cross_layers)
        ]

    def build_interaction(self) -> int:
        """Makes the cross layers."""
        width = self.flat_width
        zeros = tf.zeros([1, width])
        for layer in self.crosses:
            layer.build((None, width))
            # Keras numbers layers without a name, process-wide.
            layer.dense.name = "dense"
            if layer.projection_dim is not None:
                layer.down_proj_dense.name = "down"
            layer(zeros, zeros)  # its own layers make their variables
        return width

    def interaction(
        self, tables: list[tf.Tensor], numbers: tf.Tensor | None
    ) -> tuple[tf.Tensor, Any]:
        """[N, flat_width]."""
        x0 = x = flat(tables, numbers)
        for layer in self.crosses:
            x = layer(x0, x)
        return x, 0.0


def build(layout: Layout, config: DcnConfig, base_rate: float) -> keras.Model:
    """The model of `model.name: dcn_v2`."""
    deep = Crossed(layout, config, base_rate)
    return Network("dcn_v2", layout, layout.crosses, deep)
