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
from models.layers.activation_unit import whole_blocks
from models.layers.embedding import STDDEV
from models.layers.list_rows import at_rows
from models.layers.transformer_block import TransformerBlock, spread
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
        length = 1 + self.sequences[number].max_len
        tokens, places = tokens_of(items, length)
        positions = tf.convert_to_tensor(self.positions[number])
        # The gradient of a reshape is dense, for a variable without rows.
        positions = tf.reshape(positions, [length, tokens.shape[1]])
        tokens += at_rows(positions, places % length)
        count = tf.shape(items.target, tf.int64)[0]
        found = self.blocks[number](
            tokens,
            places,
            1 + items.lengths,
            length=length,
            by_length=training and not items.padded,
            training=training,
        )
        found = spread(found, places, count * length)
        return tf.reshape(found, [-1, length * tokens.shape[1]])


def tokens_of(items: Items, length: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Items and targets, [T, width + numbers], and the place of each.

    A place is row * length, and on top of it 0 for the target, 1 for the
    newest item, and so on; -1: of no row. T is in whole blocks.

    Args:
        items: of rows with length - 1 at most.
        length: places of a row.
    """
    target, values = items.target, items.items
    count = tf.shape(target, tf.int64)[0]
    if items.numbers is not None:
        none = tf.zeros([count, items.numbers.shape[1]], target.dtype)
        target = tf.concat([target, none], 1)
        values = tf.concat([values, items.numbers], 1)
    rows = items.rows
    number = tf.range(tf.size(rows, tf.int64), dtype=tf.int64)
    first = tf.cumsum(items.lengths, exclusive=True)
    place = rows * length + 1 + number - at_rows(first, rows)
    place = tf.where(rows < 0, rows, place)
    of_target = tf.range(count, dtype=tf.int64) * length
    tokens, missing = whole_blocks(tf.concat([values, target], 0))
    places = tf.concat([place, of_target], 0)
    return tokens, tf.pad(places, missing[:1], constant_values=-1)


def build(layout: Layout, config: BstConfig, base_rate: float) -> keras.Model:
    """The model of `model.name: bst`."""
    deep = Transformed(layout, config, base_rate)
    return Network("bst", layout, layout.crosses, deep)
