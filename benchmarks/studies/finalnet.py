"""FinalNet: hidden layers that multiply two linear maps of their input.

Zhu et al., "FINAL: Factorized Interaction Layer for CTR Prediction" (SIGIR
2023), one block. With the columns of W in two halves,

    [a, c] = W xₖ + b,    xₖ₊₁ = relu(a + a ⊙ c)

so that a layer of more doubles the degree of the interactions.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from models.architectures.base import Deep, Network
from models.config.architectures import ModelConfig
from models.preprocessing.input_layout import Layout


class FactorizedInteraction(keras.layers.Layer):
    """A layer [N, width] to [N, units]: activation(a + a ⊙ c).

    Args:
        units: of the output.
        activation: as of `keras.layers.Dense`.
        **kwargs: of a Keras layer.
    """

    def __init__(
        self, units: int, activation: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self._activation = keras.activations.get(activation)
        self._linear = keras.layers.Dense(
            2 * units, name="linear", dtype=self.dtype_policy
        )

    def build(self, shape: Any) -> None:
        """Makes W and b."""
        self._linear.build(shape)
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """[N, units]."""
        a, c = tf.split(self._linear(inputs), 2, 1)
        return self._activation(a + a * c)


class Factorized(Deep):
    """A `Deep` whose hidden layers are factorized interactions."""

    def __init__(
        self, layout: Layout, config: ModelConfig, base_rate: float
    ) -> None:
        super().__init__(layout, config, base_rate)
        self.hidden = [
            FactorizedInteraction(units, "relu", name=f"hidden_{i}")
            for i, units in enumerate(config.hidden)
        ]


def build(layout: Layout, config: ModelConfig, base_rate: float) -> keras.Model:
    """The model of `model.name: benchmarks.studies.finalnet:build`."""
    deep = Factorized(layout, config, base_rate)
    return Network("finalnet", layout, layout.crosses, deep)
