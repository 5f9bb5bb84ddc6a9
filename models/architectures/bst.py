"""Behavior sequence transformer: one block over target and sequence.

Chen et al., "Behavior Sequence Transformer for E-commerce Recommendation in
Alibaba", arXiv 1905.06874. A position is how many items are newer, with a
learned embedding; the target is before the newest. A number beside an item adds
a learned vector, times its value.

Hidden layers see embeddings, numbers, the block's output of the target, the
`scaled` sum of the items' embeddings, and the product of sum and target, as in
`din`. The paper has the outputs of all positions side by side: 51 times as
wide, slower, and behind on generated logs. So is the sum of the outputs.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from models.architectures.base import Network
from models.architectures.sequenced import Items, Sequenced, scaled
from models.config.architectures import BstConfig
from models.layers.embedding import STDDEV
from models.layers.list_rows import at_rows
from models.layers.transformer_block import TransformerBlock
from models.preprocessing.input_layout import Layout


class Transformed(Sequenced):
    """A `Sequenced` with a transformer block for each sequence."""

    def __init__(
        self, layout: Layout, config: BstConfig, base_rate: float
    ) -> None:
        super().__init__(layout, config, base_rate)
        self.blocks = [
            TransformerBlock(
                self.width(one),
                config.heads,
                config.block_dropout,
                name=f"block_{i}",
            )
            for i, one in enumerate(self.sequences)
        ]
        self.positions: list[keras.Variable] = []
        self.directions: list[keras.Variable | None] = []

    def build_interest(self, number: int, width: int, numbers: int) -> int:
        """Makes the block, and an embedding of each position."""
        self.blocks[number].build()
        self.positions.append(
            self.add_weight(
                shape=(1 + self.sequences[number].max_len, width),
                initializer=keras.initializers.RandomNormal(stddev=STDDEV),
                name=f"position_{number}",
            )
        )
        # Numbers are larger than embeddings, and would drown them at first.
        self.directions.append(
            self.add_weight(
                shape=(numbers, width),
                initializer="zeros",
                name=f"numbers_{number}",
            )
            if numbers
            else None
        )
        return 3 * width

    def interest(self, number: int, items: Items, training: bool) -> tf.Tensor:
        """[N, three times the width of an item]."""
        target, tokens, rows = items.target, items.items, items.rows
        direction = self.directions[number]
        if direction is not None:
            tokens += items.numbers @ tf.convert_to_tensor(direction)
        positions = tf.convert_to_tensor(self.positions[number])
        # The gradient of a reshape is dense, for a variable without rows.
        positions = tf.reshape(positions, positions.shape)
        tokens += tf.gather(positions, places_of(items))
        found = self.blocks[number](
            target + positions[0], tokens, rows, training=training
        )
        count = tf.shape(target, tf.int64)[0]
        total = tf.math.unsorted_segment_sum(items.items, rows, count)
        total = scaled(total, items.lengths)
        return tf.concat([found, total, total * target], 1)


def places_of(items: Items) -> tf.Tensor:
    """Position of each item, int64 [V]: 1 of the newest of a row, and so on."""
    number = tf.range(tf.size(items.rows, tf.int64), dtype=tf.int64)
    first = tf.cumsum(items.lengths, exclusive=True)
    place = 1 + number - at_rows(first, items.rows)
    return tf.where(items.rows < 0, tf.zeros_like(place), place)


def build(layout: Layout, config: BstConfig, base_rate: float) -> keras.Model:
    """The model of `model.name: bst`."""
    deep = Transformed(layout, config, base_rate)
    return Network("bst", layout, layout.crosses, deep)
