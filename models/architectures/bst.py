"""Behavior sequence transformer: one block over target and sequence.

Chen et al., "Behavior Sequence Transformer for E-commerce Recommendation in
Alibaba", arXiv 1905.06874. Hidden layers see embeddings, numbers, and the
block's outputs of all positions. A position is how many items are newer, with
a learned embedding; the target is before the newest.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from models.architectures.base import Network
from models.architectures.sequenced import Items, Sequenced
from models.config.architectures import BstConfig
from models.layers.embedding import STDDEV
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
                self.width(one) + len(one.numbers),
                config.heads,
                config.block_dropout,
                name=f"block_{i}",
            )
            for i, one in enumerate(self.sequences)
        ]
        self.positions: list[keras.Variable] = []

    def build_interest(self, number: int, width: int, numbers: int) -> int:
        """Makes the block, and an embedding of each position."""
        self.blocks[number].build()
        shape = (1 + self.sequences[number].max_len, width + numbers)
        self.positions.append(
            self.add_weight(
                shape=shape,
                initializer=keras.initializers.RandomNormal(stddev=STDDEV),
                name=f"position_{number}",
            )
        )
        return shape[0] * shape[1]

    def interest(self, number: int, items: Items, training: bool) -> tf.Tensor:
        """[N, (1 + max_len) * width]: the target, then the newest items."""
        positions = tf.convert_to_tensor(self.positions[number])
        padded, there = padded_items(items, self.sequences[number].max_len)
        found = self.blocks[number](
            padded + positions[None], there, training=training
        )
        return tf.reshape(found, [-1, positions.shape[0] * positions.shape[1]])


def padded_items(items: Items, most: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Target and items, [N, 1 + most, width + numbers]; where there are some.

    Args:
        items: of rows with `most` at most.
        most: items a row is padded to.
    """
    target, values = items.target, items.items
    count = tf.shape(target)[0]
    if items.numbers is not None:
        none = tf.zeros([count, items.numbers.shape[1]], target.dtype)
        target = tf.concat([target, none], 1)
        values = tf.concat([values, items.numbers], 1)
    rows = items.ragged.value_rowids()
    first = tf.gather(items.ragged.row_starts(), rows)
    place = tf.range(tf.size(rows, tf.int64), dtype=tf.int64) - first
    at = rows * most + place
    width = target.shape[1]
    padded = tf.math.unsorted_segment_sum(values, at, count * most)
    padded = tf.reshape(padded, [-1, most, width])
    lengths = items.ragged.row_lengths()
    there = tf.range(most, dtype=tf.int64)[None] < lengths[:, None]
    return (
        tf.concat([target[:, None], padded], 1),
        tf.pad(there, [[0, 0], [1, 0]], constant_values=True),
    )


def build(layout: Layout, config: BstConfig, base_rate: float) -> keras.Model:
    """The model of `model.name: bst`."""
    deep = Transformed(layout, config, base_rate)
    return Network("bst", layout, layout.crosses, deep)
