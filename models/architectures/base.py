"""Base of the Keras 3 architectures: tables, hidden layers, one logit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from models.config.architectures import ModelConfig
from models.layers.embedding import FusedTable, by_dim
from models.layers.mlp import apply_layers, dense_layers, head
from models.preprocessing.input_layout import (
    DENSE,
    IDS,
    SHALLOW_IDS,
    IdFeature,
    Layout,
)


class Deep(keras.layers.Layer):
    """Embeddings and numbers, what they do to each other, hidden layers.

    A subclass says what the hidden layers see: `build_interaction` makes its
    variables, `interaction` computes it. This one shows them embeddings and
    numbers as they are.
    """

    def __init__(
        self, layout: Layout, config: ModelConfig, base_rate: float
    ) -> None:
        super().__init__(name="deep")
        self.numbers = len(layout.dense)
        apart = [
            name
            for sequence in layout.sequences
            for name in sequence.lists
            if config.reads_sequences
        ]
        self.tables = [
            FusedTable(
                layout,
                features,
                dim,
                l2=config.embedding_l2,
                apart=apart,
                name=f"embedding_{dim}",
            )
            for dim, features in by_dim(layout.ids).items()
        ]
        self.hidden = dense_layers(
            keras.layers, "hidden", config.hidden, config
        )
        self.out = head(keras.layers, keras.initializers, base_rate)
        # The mean of the logits of both labels, for a loss that asks.
        self.level = None
        if config.logits == 2:
            self.level = keras.layers.Dense(1, name="level", dtype="float32")

    @property
    def flat_width(self) -> int:
        """Numbers and values of all embeddings of a row."""
        widths = [table.fields * table.lookup.dim for table in self.tables]
        return self.numbers + sum(widths)

    def build_interaction(self) -> int:
        """Makes its variables; returns how wide the hidden layers' input is."""
        return self.flat_width

    def interaction(
        self, tables: list[tf.Tensor], numbers: tf.Tensor | None
    ) -> tuple[tf.Tensor, Any]:
        """Input of the hidden layers, and a term of the logit.

        Args:
            tables: [N, fields, dim] of each table, narrow ones first.
            numbers: [N, D], or None where there are none.
        """
        return flat(tables, numbers), 0.0

    def build(self, _: Any) -> None:
        """Makes all variables, so that their names begin with deep/."""
        for table in self.tables:
            table.build()
        width = build_in_order(self.hidden, self.build_interaction())
        self.out.build((None, width))
        if self.level is not None:
            self.level.build((None, width))
        self.built = True

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
        tables = [table(inputs, training=training) for table in self.tables]
        x, logit = self.interaction(tables, numbers)
        return self.heads(x, logit, both)

    def heads(self, x: tf.Tensor, logit: Any, both: bool) -> Any:
        """Logits, or logits and level, of the hidden layers' input.

        Args:
            x: input of the hidden layers.
            logit: term of the logits.
            both: whether the level comes too.
        """
        x = apply_layers(self.hidden, x)
        logit = tf.squeeze(self.out(x), 1) + logit
        if not both:
            return logit
        assert self.level is not None
        return logit, tf.squeeze(self.level(x), 1)


class Fields(Deep):
    """A `Deep` whose interaction wants embeddings of one width, `dim`.

    That is the widest feature's; the others' are projected to it, without
    bias, by a matrix for each width (Ginart et al., "Mixed dimension
    embeddings", arXiv 1909.11810).
    """

    def __init__(
        self, layout: Layout, config: ModelConfig, base_rate: float
    ) -> None:
        super().__init__(layout, config, base_rate)
        dims = list(by_dim(layout.ids))
        self.dim = max(dims, default=16)
        self.projections = [
            keras.layers.Dense(self.dim, use_bias=False, name=f"project_{dim}")
            for dim in dims
            if dim != self.dim
        ]
        self.fields = sum(table.fields for table in self.tables)

    def build_interaction(self) -> int:
        """Makes the projections."""
        for table, layer in zip(self.tables, self.projections, strict=False):
            layer.build((None, None, table.lookup.dim))
        return super().build_interaction()

    def of_one_width(self, tables: list[tf.Tensor]) -> tf.Tensor:
        """[N, fields, dim] of all features."""
        narrow = zip(self.projections, tables, strict=False)
        parts = [layer(table) for layer, table in narrow]
        return tf.concat([*parts, *tables[len(parts) :]], 1)


class Network(keras.Model):
    """Logits [N] of a click: weights of single ids, and a deep part.

    Features that are not served add a weight of each id, the shallow part; the
    inputs that are served lack it. Zhao et al., "Recommending what video to
    watch next" (RecSys 2019). Each label's logit has weights of its own there:
    what a slot does to clicks, it does not do to purchases after a click.
    Variables are named wide/..., deep/..., shallow/..., for optimizer groups
    to match.

    Args:
        name: of the architecture.
        layout: of the inputs.
        wide: features with a weight for each id.
        deep: the rest of the model.
    """

    takes_padding = True  # of `list_rows.padded`

    def __init__(
        self, name: str, layout: Layout, wide: Sequence[IdFeature], deep: Deep
    ) -> None:
        super().__init__(name=name)
        # Sub-layers are built here and not in build(), where Keras would put
        # the model's name before wide/ and deep/.
        self.wide = None
        if wide:
            self.wide = FusedTable(
                layout, wide, 1, shared=False, stddev=0.0, name="wide"
            )
            self.wide.build()
        self.shallow = None
        if layout.shallow:
            self.shallow = FusedTable(
                Layout(layout.shallow, (), ()), layout.shallow,
                max(1, len(layout.labels)),
                shared=False, stddev=0.0, name="shallow",
            )  # fmt: skip
            self.shallow.build()
        self.deep = deep
        self.deep.build(None)
        self.built = True

    def call(
        self,
        inputs: Mapping[str, Any],
        training: bool = False,
        both: bool = False,
    ) -> tf.Tensor:
        """Logits of a click, float32 [N]; with `both` of each label, [N, 2].

        Those of a model of several labels are [N, labels].
        """
        level = None
        if both:
            logit, level = self.deep(inputs, training=training, both=True)
        else:
            logit = self.deep(inputs, training=training)
        if self.wide is not None:
            weights = tf.cast(self.wide(inputs), tf.float32)
            logit += tf.reduce_sum(weights, axis=[1, 2])
        if self.shallow is not None and SHALLOW_IDS in inputs:
            ids = {IDS: inputs[SHALLOW_IDS]}
            weights = tf.cast(self.shallow(ids), tf.float32)  # [N, F, labels]
            axes = [1, 2] if weights.shape[2] == 1 else [1]
            logit += tf.reduce_sum(weights, axis=axes)
        if level is None:
            return logit
        return tf.stack([level - logit / 2, level + logit / 2], 1)


def build_in_order(layers: Sequence[Any], width: int) -> int:
    """Builds each on the width of the one before; returns the last one's."""
    for layer in layers:
        layer.build((None, width))
        width = getattr(layer, "units", width)
    return width


def flat(tables: list[tf.Tensor], numbers: tf.Tensor | None) -> tf.Tensor:
    """Embeddings and numbers of a row side by side, [N, flat_width]."""
    parts = [
        tf.reshape(table, [-1, table.shape[1] * table.shape[2]])
        for table in tables
    ]
    return tf.concat(parts if numbers is None else [*parts, numbers], 1)
