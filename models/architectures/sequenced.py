"""Base of the architectures that look at the items of a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from models.architectures.base import Deep, flat
from models.config.architectures import ModelConfig
from models.layers.list_rows import PADDED, value_rows
from models.preprocessing.input_layout import (
    DENSE,
    LISTS,
    NUMBERS,
    Layout,
    SequenceInput,
)


class Items(NamedTuple):
    """A sequence of each row, and its target.

    target: [N, width]. items: of all rows, [V, width]. numbers: beside them,
    [V, D], or None. rows: row of each item, int64 [V], rising, the newest item
    of a row first; -1 of one that pads them for XLA. lengths: of each row,
    int64 [N]. padded: whether XLA compiles this.
    """

    target: tf.Tensor
    items: tf.Tensor
    numbers: tf.Tensor | None
    rows: tf.Tensor
    lengths: tf.Tensor
    padded: bool = False


class Sequenced(Deep):
    """A `Deep` whose hidden layers also see `interest` in each sequence.

    A subclass makes its variables in `build_interest`.
    """

    def __init__(
        self, layout: Layout, config: ModelConfig, base_rate: float
    ) -> None:
        super().__init__(layout, config, base_rate)
        self.sequences = layout.sequences

    def width(self, sequence: SequenceInput) -> int:
        """Values of an item: of its embedding and those of its sides."""
        return sum(self._place(name)[1] for name in sequence.queries)

    def build_interest(self, number: int, width: int, numbers: int) -> int:
        """Makes its variables; returns how wide the interest is.

        Args:
            number: of the sequence.
            width: of an item.
            numbers: beside it.
        """
        raise NotImplementedError

    def interest(self, number: int, items: Items, training: bool) -> tf.Tensor:
        """[N, as wide as `build_interest` said]."""
        raise NotImplementedError

    def build_interaction(self) -> int:
        """Makes the variables of each sequence."""
        return self.flat_width + sum(
            self.build_interest(i, self.width(one), len(one.numbers))
            for i, one in enumerate(self.sequences)
        )

    def call(
        self,
        inputs: Mapping[str, Any],
        training: bool = False,
        both: bool = False,
    ) -> Any:
        """Logits, float32 [N]; with `both` their level [N] too."""
        numbers = None
        if self.numbers:
            numbers = tf.cast(inputs[DENSE], self.compute_dtype)
        tables: list[tf.Tensor] = []
        rows: dict[str, tf.Tensor] = {}
        for table in self.tables:
            found = table(inputs, training=training)
            if self.sequences:
                found, apart = found
                rows |= apart
            tables.append(found)
        parts = [flat(tables, numbers)]
        for i, one in enumerate(self.sequences):
            items = self._items(one, tables, rows, inputs)
            parts.append(self.interest(i, items, training))
        x = parts[0] if len(parts) == 1 else tf.concat(parts, 1)
        return self.heads(x, 0.0, both)

    def _items(
        self,
        sequence: SequenceInput,
        tables: list[tf.Tensor],
        rows: Mapping[str, tf.Tensor],
        inputs: Mapping[str, Any],
    ) -> Items:
        target = []
        for name in sequence.queries:
            table, _, field = self._place(name)
            target.append(tables[table][:, field])
        beside = [
            tf.cast(inputs[NUMBERS + n].flat_values, self.compute_dtype)
            for n in sequence.numbers
        ]
        ragged = inputs[LISTS + sequence.lists[0]]
        return Items(
            tf.concat(target, 1),
            tf.concat([rows[name] for name in sequence.lists], 1),
            tf.stack(beside, 1) if beside else None,
            value_rows(ragged),
            ragged.row_lengths(),
            PADDED in inputs,
        )

    def _place(self, feature: str) -> tuple[int, int, int]:
        """Table, width and field of a feature's embedding."""
        for number, table in enumerate(self.tables):
            field = table.place(feature)
            if field is not None:
                return number, table.lookup.dim, field
        raise KeyError(feature)


def scaled(sums: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Sums of n items divided by sqrt(1 + n), [N, width].

    A sum of 50 items drowns the target: where histories tell little, the model
    then ranks worse than without them. The root still tells a strong interest
    from a weak one.

    Args:
        sums: of each row, [N, width].
        lengths: n of each row, [N].
    """
    return sums * tf.math.rsqrt(1 + tf.cast(lengths, sums.dtype))[:, None]
