"""Behavior sequence transformer: one block over target and sequence.

Chen et al., "Behavior Sequence Transformer for E-commerce Recommendation in
Alibaba", arXiv 1905.06874. A position is how many items are newer, with a
learned embedding; the target is before the newest. A number beside an item adds
a learned vector, times its value.

Hidden layers see embeddings, numbers, the block's output of the target, the sum
of those of the items, and this sum's product with the target, as in `din`. The
paper has the outputs of all positions side by side: 51 times as wide, and
behind on generated logs.
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
        length = 1 + self.sequences[number].max_len
        direction = self.directions[number]
        if direction is not None:
            beside = items.numbers @ tf.convert_to_tensor(direction)
            items = items._replace(items=items.items + beside)
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
        last = tf.size(items.rows)
        target = found[last : last + tf.shape(items.target)[0]]
        total = tf.math.unsorted_segment_sum(found[:last], items.rows, count)
        return tf.concat([target, total, total * items.target], 1)


def tokens_of(items: Items, length: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Items and targets, [T, width], and the place of each.

    A place is row * length, and on top of it 0 for the target, 1 for the
    newest item, and so on; -1: of no row. T is in whole blocks.

    Args:
        items: of rows with length - 1 at most.
        length: places of a row.
    """
    target, values = items.target, items.items
    count = tf.shape(target, tf.int64)[0]
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
