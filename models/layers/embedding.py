"""Embedding tables: one fused table a width, one gather a step."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from models.layers.list_rows import at_rows, value_rows
from models.preprocessing.input_layout import (
    IDS,
    LISTS,
    WEIGHTS,
    IdFeature,
    Layout,
    offsets,
)
from models.variables import assign_rows

_PART = 1 << 22  # values
# Deviation of embeddings at the start. Rows that training seldom meets stay so:
# the smaller, the less noise they add.
STDDEV = 0.01


class Lookup:
    """Which rows of a fused table a batch reads, and what becomes of them.

    Row `first[feature] + id` belongs to `id` of `feature`; features of one
    `table` share their rows. A list is pooled to its mean or sum, weighted
    where it has weights, or by attention: weights softmax(row · query /
    sqrt(dim)), one learned query for each such list, or the embedding of
    another feature. An empty list is zero. Plain TensorFlow, for layers of
    either Keras.

    Args:
        layout: of the inputs.
        features: those in this table.
        dim: width of a row.
        shared: whether features of one `table` share their rows.
        apart: lists that are not pooled, by `pool`.
    """

    def __init__(
        self,
        layout: Layout,
        features: Sequence[IdFeature],
        dim: int,
        shared: bool = True,
        apart: Collection[str] = (),
    ) -> None:
        owners = {f.name: f.rows if shared else f.name for f in features}
        first, self.rows = offsets({owners[f.name]: f.size for f in features})
        self.first = {name: first[owner] for name, owner in owners.items()}
        self.dim = dim
        self._columns = [
            (column, self.first[f.name])
            for column, f in enumerate(layout.single)
            if f.name in self.first
        ]
        self._lists = [f for f in layout.lists if f.name in self.first]
        self._apart = [f.name for f in self._lists if f.name in apart]
        pooled = [f for f in self._lists if f.name not in self._apart]
        attended = [f for f in pooled if f.pool == "attention" and dim > 1]
        self.attended = [f.name for f in attended if not f.query]
        columns = [layout.single[column].name for column, _ in self._columns]
        self.fields_of = {
            name: place
            for place, name in enumerate([*columns, *(f.name for f in pooled)])
        }
        self._queried = {
            f.name: self.fields_of[f.query] for f in attended if f.query
        }

    @property
    def fields(self) -> int:
        """Embeddings a row of the batch: one for each feature but `apart`."""
        return len(self.fields_of)

    def gather(self, table: Any, inputs: Mapping[str, Any]) -> tf.Tensor:
        """Rows read, [R, dim]: of `ids` row by row, then list after list.

        Args:
            table: tf.Variable [rows, dim]. tf.gather on the variable itself
                reads only the rows wanted, and its gradient stays sparse. Or
                a `CompactTable`.
            inputs: `ids` [N, F] and ragged `list_*` [N, (values)]; weights of
                the values are ragged `weights_*`.
        """
        parts = []
        if self._columns:
            columns, first = zip(*self._columns, strict=True)
            ids = inputs[IDS]
            if columns != tuple(range(ids.shape[1])):
                ids = tf.gather(ids, columns, axis=1)
            parts.append(tf.reshape(ids + tf.constant(first, tf.int64), [-1]))
        parts += [
            inputs[LISTS + f.name].flat_values + self.first[f.name]
            for f in self._lists
        ]
        ids = tf.concat(parts, 0) if len(parts) > 1 else parts[0]
        return read(table, ids)

    def weights(self, inputs: Mapping[str, Any]) -> tf.Tensor:
        """Weight of each row of `gather` in a penalty, float32 [R].

        A list counts as one value does, however long it is: each of its values
        weighs 1 / length, and one behind the last list nothing.
        """
        parts = []
        if self._columns:
            count = tf.size(inputs[IDS][:, 0]) * len(self._columns)
            parts.append(tf.ones([count]))
        for f in self._lists:
            ragged = inputs[LISTS + f.name]
            rows = value_rows(ragged)
            lengths = tf.cast(at_rows(ragged.row_lengths(), rows), tf.float32)
            parts.append(tf.where(rows < 0, 0.0, 1 / tf.maximum(lengths, 1.0)))
        return tf.concat(parts, 0) if len(parts) > 1 else parts[0]

    def pool(
        self, rows: tf.Tensor, inputs: Mapping[str, Any], queries: Any = None
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """[N, fields, dim] from what `gather` gave; of lists apart [V, dim].

        Args:
            rows: [R, dim].
            inputs: as for `gather`.
            queries: [len(attended), dim].
        """
        single = [-1, len(self._columns), self.dim]
        if not self._lists:
            return tf.reshape(rows, single), {}
        lists = [inputs[LISTS + f.name] for f in self._lists]
        counts = [tf.size(ragged.flat_values) for ragged in lists]
        outputs = []
        if self._columns:
            counts = [tf.size(inputs[IDS][:, 0]) * len(self._columns), *counts]
        pieces = tf.split(rows, counts, num=len(counts))
        if self._columns:
            outputs.append(tf.reshape(pieces.pop(0), single))
        apart = {}
        for f, ragged, piece in zip(self._lists, lists, pieces, strict=True):
            if f.name in self._apart:
                apart[f.name] = piece
                continue
            if f.name in self._queried:
                query = outputs[0][:, self._queried[f.name]]  # [N, dim]
                query = at_rows(query, value_rows(ragged))
                pooled = attention_pool(piece, ragged, query)
            elif f.pool == "last":
                pooled = first_pool(piece, ragged)
            elif f.name in self.attended:
                query = queries[self.attended.index(f.name)]
                pooled = attention_pool(piece, ragged, query)
            else:
                weights = inputs[WEIGHTS + f.name] if f.weighted else None
                pool = sum_pool if f.pool == "sum" else mean_pool
                pooled = pool(piece, ragged, weights)
            outputs.append(pooled[:, None, :])
        return tf.concat(outputs, 1), apart


def read(table: Any, ids: tf.Tensor) -> tf.Tensor:
    """Rows [R, dim] of ids [R]."""
    rows = getattr(table, "rows", None)  # of a CompactTable
    return tf.gather(table, ids) if rows is None else rows(ids)


def mean_pool(
    values: tf.Tensor,
    ragged: tf.RaggedTensor,
    weights: tf.RaggedTensor | None = None,
) -> tf.Tensor:
    """[N, dim] from one vector a value, [V, dim]; zero for an empty list.

    Args:
        values: the vectors.
        ragged: the list that they are of.
        weights: float32 of the same lengths; None: all weigh the same.
    """
    rows, count = value_rows(ragged), ragged.nrows()
    total = tf.math.unsorted_segment_sum(_weighed(values, weights), rows, count)
    if weights is None:
        ones = tf.ones_like(rows, tf.float32)
        lengths = tf.math.unsorted_segment_sum(ones, rows, count)
        lengths = tf.maximum(lengths, 1.0)
    else:
        lengths = tf.math.unsorted_segment_sum(weights.flat_values, rows, count)
        lengths = tf.where(lengths > 0, lengths, tf.ones_like(lengths))
    return total / tf.cast(lengths, values.dtype)[:, None]


def sum_pool(
    values: tf.Tensor,
    ragged: tf.RaggedTensor,
    weights: tf.RaggedTensor | None = None,
) -> tf.Tensor:
    """As `mean_pool`, without the division."""
    rows, count = value_rows(ragged), ragged.nrows()
    return tf.math.unsorted_segment_sum(_weighed(values, weights), rows, count)


def _weighed(values: tf.Tensor, weights: tf.RaggedTensor | None) -> tf.Tensor:
    if weights is None:
        return values
    return values * tf.cast(weights.flat_values, values.dtype)[:, None]


def first_pool(values: tf.Tensor, ragged: tf.RaggedTensor) -> tf.Tensor:
    """[N, dim], the first vector of each list; zero for an empty list."""
    starts, lengths = ragged.row_starts(), ragged.row_lengths()
    there = tf.where(lengths > 0)  # [filled, 1]
    first = tf.gather(values, tf.gather_nd(starts, there))
    shape = tf.stack([ragged.nrows(), values.shape[-1]])
    return tf.scatter_nd(there, first, shape)


def attention_pool(
    values: tf.Tensor, ragged: tf.RaggedTensor, query: tf.Tensor
) -> tf.Tensor:
    """As `mean_pool`, weighted by softmax(values · query / sqrt(dim)).

    query: [dim], or one for each value, [V, dim].
    """
    rows, count = value_rows(ragged), ragged.nrows()
    wide, query = tf.cast(values, tf.float32), tf.cast(query, tf.float32)
    products = (
        tf.linalg.matvec(wide, query)
        if query.shape.rank == 1
        else tf.reduce_sum(wide * query, 1)
    )
    scores = products / values.shape[-1] ** 0.5  # [V]
    weights = segment_exp(scores, rows, count)
    # The highest score weighs 1, so a sum below 1 is that of an empty list.
    sums = tf.maximum(tf.math.unsorted_segment_sum(weights, rows, count), 1.0)
    total = tf.math.unsorted_segment_sum(wide * weights[:, None], rows, count)
    return tf.cast(total / sums[:, None], values.dtype)


def segment_exp(
    scores: tf.Tensor, rows: tf.Tensor, count: tf.Tensor
) -> tf.Tensor:
    """Exponentials of scores [V], each less the highest of its row.

    Divided by their sums they are the softmax of each row. Scores of no row
    stay finite too.
    """
    highest = tf.math.unsorted_segment_max(scores, rows, count)
    away = scores - at_rows(tf.stop_gradient(highest), rows)
    return tf.exp(tf.minimum(away, 0.0))


def penalty(
    rows: tf.Tensor, weights: tf.Tensor, inputs: Mapping[str, Any]
) -> tf.Tensor:
    """Sum of squares of the rows that a batch reads, by row of the batch.

    Args:
        rows: [R, dim].
        weights: of the rows, [R].
        inputs: of the batch.
    """
    some = next(iter(inputs.values()))
    ragged = isinstance(some, tf.RaggedTensor)
    count = some.nrows() if ragged else tf.shape(some)[0]
    squares = tf.reduce_sum(tf.square(tf.cast(rows, tf.float32)), 1)
    total = tf.tensordot(squares, weights, 1)
    # A replica may have no row of a last batch.
    return total / tf.cast(tf.maximum(count, 1), tf.float32)


def randomize(table: Any, stddev: float) -> None:
    """Fills a table with normal values, which follow from Keras's seed.

    They are the same in each process of a training. A few rows at a time:
    drawn at once they would take a second table of memory, which TensorFlow's
    allocator never gives back.
    """
    rows, dim = table.shape
    count = max(1, _PART // dim)
    seed = random.randrange(1 << 31)  # `set_random_seed` is behind this too
    for start in range(0, rows, count):
        shape = [min(count, rows - start), dim]
        values = tf.random.stateless_normal(
            shape, [seed, start], dtype=tf.float32
        )
        assign_rows(table, start, tf.cast(stddev * values, table.dtype))


class Fused:
    """A table of several features: base of the layers of Keras 2 and 3.

    A subclass, which is a layer too, makes it when it is built.

    Args:
        layout, features, dim, shared: see `Lookup`.
        l2: weight of `penalty` in the losses of a training step.
        stddev: of its values at the start; 0 makes them zero.
        apart: lists that are not pooled.
    """

    add_weight: Any
    add_loss: Any
    compute_dtype: Any
    # Table that is read instead, in an export with fewer bits.
    compact: Any = None

    def __init__(
        self,
        layout: Layout,
        features: Sequence[IdFeature],
        dim: int,
        shared: bool = True,
        l2: float = 0.0,
        stddev: float = STDDEV,
        apart: Collection[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # A weight of single ids is trained, whatever its embedding is.
        frozen = [f for f in features if shared and f.frozen]
        trained = [f for f in features if f not in frozen]
        self.lookup = Lookup(layout, trained, dim, shared, apart)
        self._frozen = (
            Lookup(layout, frozen, dim, apart=apart) if frozen else None
        )
        self._gives_apart = bool(apart)
        self._l2 = l2
        self._stddev = stddev

    @property
    def fields(self) -> int:
        """Embeddings a row of the batch: one for each feature."""
        return self.lookup.fields + (self._frozen.fields if self._frozen else 0)

    @property
    def fixed(self) -> tuple[Lookup | None, Any]:
        """Look-up and variable of the features that are not trained."""
        return self._frozen, getattr(self, "pretrained", None)

    def make(self, **uncast: bool) -> None:
        """Makes the variables.

        Args:
            uncast: Keras's way to say that a weight keeps its precision. Rows
                are cast after the gather: casting the table would copy it.
        """
        lookup = self.lookup
        shapes = {"table": (max(1, lookup.rows), lookup.dim)}
        kept: dict[str, Any] = {} if lookup.rows else {"table": False}
        if self._frozen:
            shapes["pretrained"] = (self._frozen.rows, lookup.dim)
            kept["pretrained"] = False
        if lookup.attended:  # all zero: it begins as the mean
            shapes["query"] = (len(lookup.attended), lookup.dim)
        made = {
            name: self.add_weight(
                shape=shape,
                initializer="zeros",
                name=name,
                trainable=kept.get(name, True),
                **uncast,
            )
            for name, shape in shapes.items()
        }
        self.table, self.query = made["table"], made.get("query")
        if self._frozen:
            self.pretrained = made["pretrained"]
        if self._stddev:
            randomize(self.table, self._stddev)
        self.built = True

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> Any:
        """[N, fields, dim]; with `apart`, also the rows of these lists."""
        parts = []
        if self._frozen:
            rows = self._frozen.gather(self.read(self.pretrained), inputs)
            rows = tf.cast(rows, self.compute_dtype)
            parts.append(self._frozen.pool(rows, inputs))
        if self.lookup.fields:
            table = self.compact or self.read(self.table)
            rows = self.lookup.gather(table, inputs)
            if self._l2 and training:
                weights = self.lookup.weights(inputs)
                self.add_loss(self._l2 * penalty(rows, weights, inputs))
            rows = tf.cast(rows, self.compute_dtype)
            query = None if self.query is None else self.read(self.query)
            parts.append(self.lookup.pool(rows, inputs, query))
        pooled = [one for one, _ in parts]
        whole = pooled[0] if len(pooled) == 1 else tf.concat(pooled, 1)
        if not self._gives_apart:
            return whole
        return whole, {n: rows for _, some in parts for n, rows in some.items()}

    def place(self, name: str) -> int | None:
        """Which of the fields is a feature's; None: it is not here."""
        before = self._frozen.fields_of if self._frozen else {}
        if name in before:
            return before[name]
        place = self.lookup.fields_of.get(name)
        return None if place is None else len(before) + place

    def read(self, weight: Any) -> Any:
        """Tensor that TensorFlow's functions take for a weight."""
        return weight


class FusedTable(Fused, keras.layers.Layer):
    """A `Fused` as a Keras 3 layer."""

    def build(self, _: Any = None) -> None:
        """Makes the table."""
        self.make(autocast=False)

    def read(self, weight: Any) -> Any:
        """The tf.Variable inside."""
        return weight.value


def by_dim(features: Sequence[IdFeature]) -> dict[int, list[IdFeature]]:
    """Embedded features by the width of their embedding, narrow ones first."""
    dims = sorted({f.dim for f in features if f.dim})
    return {dim: [f for f in features if f.dim == dim] for dim in dims}
