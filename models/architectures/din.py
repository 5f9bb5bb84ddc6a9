"""Deep interest network: the target's attention to each sequence.

Zhou et al., "Deep Interest Network for Click-Through Rate Prediction",
arXiv 1706.06978. Hidden layers see embeddings, numbers, the sum of the items'
embeddings, weighted by an activation unit, and its product with the target, as
in the authors' code. Without the product the layers learn for epochs that the
interest is alike the target.

The paper has the plain sum. Here it is `scaled` by the number of items, unless
softmax has normalized it.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from models.architectures.base import Network
from models.architectures.sequenced import Items, Sequenced, scaled
from models.config.architectures import DinConfig
from models.layers.activation_unit import ActivationUnit
from models.preprocessing.input_layout import Layout


class Interested(Sequenced):
    """A `Sequenced` with an activation unit for each sequence."""

    def __init__(
        self, layout: Layout, config: DinConfig, base_rate: float
    ) -> None:
        super().__init__(layout, config, base_rate)
        self._softmax = config.softmax
        self.units = [
            ActivationUnit(
                config.attention, config.softmax, name=f"attention_{i}"
            )
            for i in range(len(layout.sequences))
        ]

    def build_interest(self, number: int, width: int, numbers: int) -> int:
        """Makes the activation unit."""
        self.units[number].build(width, numbers)
        return 2 * width

    def interest(self, number: int, items: Items, training: bool) -> tf.Tensor:
        """[N, twice the width of an item]."""
        target = items.target
        found = self.units[number](
            target, items.items, items.rows, items.numbers
        )
        if not self._softmax:
            found = scaled(found, items.lengths)
        return tf.concat([found, found * target], 1)


def build(layout: Layout, config: DinConfig, base_rate: float) -> keras.Model:
    """The model of `model.name: din`."""
    deep = Interested(layout, config, base_rate)
    return Network("din", layout, layout.crosses, deep)
