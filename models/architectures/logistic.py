"""Logistic regression, trained by any optimizer.

It is named by its path, as a model of one's own is: `model.name:
models.architectures.logistic:build`. `lionctr compare` fits its first line
exactly, see `models.training.logistic_regression`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from models.architectures.base import Network
from models.config.architectures import ModelConfig
from models.layers.mlp import head
from models.preprocessing.input_layout import DENSE, Layout


class Numbers(keras.layers.Layer):
    """A weight for each number, and the bias."""

    def __init__(self, count: int, base_rate: float, logits: int) -> None:
        super().__init__(name="deep")
        self._count = count
        self.out = head(keras.layers, keras.initializers, base_rate)
        self.level = None
        if logits == 2:
            self.level = keras.layers.Dense(1, name="level", dtype="float32")

    def build(self, _: Any) -> None:
        """Makes the weights; a constant input stands for no numbers."""
        self.out.build((None, max(1, self._count)))
        self.out.kernel.assign(tf.zeros_like(self.out.kernel))
        if self.level is not None:
            self.level.build((None, max(1, self._count)))
        self.built = True

    def call(
        self,
        inputs: Mapping[str, Any],
        training: bool = False,
        both: bool = False,
    ) -> Any:
        """Logits, float32 [N], or [1] where there are no numbers.

        With `both` their level too.
        """
        numbers = inputs[DENSE] if self._count else tf.zeros([1, 1])
        logit = tf.squeeze(self.out(numbers), 1)
        if not both:
            return logit
        assert self.level is not None
        return logit, tf.squeeze(self.level(numbers), 1)


def build(layout: Layout, config: ModelConfig, base_rate: float) -> keras.Model:
    """A weight for each id, also of crosses, and for each number."""
    numbers: Any = Numbers(len(layout.dense), base_rate, config.logits)
    return Network("logistic", layout, layout.ids, numbers)
