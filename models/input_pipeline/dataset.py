"""Transformed examples on disk to batches of model inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.config.training import LABEL, WEIGHT
from models.input_pipeline.groups import Pairs, by_group, count_pairs, ranges
from models.input_pipeline.record_index import Ints, index
from models.input_pipeline.record_reader import reader
from models.preprocessing.input_layout import GROUPS

if TYPE_CHECKING:
    import tensorflow_transform as tft

# Its source is compiled by nothing: tracing is twice as fast without.
_as_it_is = tf.autograph.experimental.do_not_convert
_ROWS_AT_ONCE = 32_768  # read, where they are not shuffled
_BLOCKS_AT_ONCE = 32  # of which groups are read


class Batches:
    """Batches of the rows of `files`, in an order that can be told in advance.

    A pass over the rows (an epoch) has each of them once; only its last batch
    may be short. With `shuffle`, an epoch puts the blocks of all files in
    random order, cuts that into buffers of at least `shuffle` rows, and puts
    the rows of each buffer in random order. The order follows from the files,
    `batch_size`, `shuffle`, `seed` and the epoch's number alone: threads have
    no say, and a training can go on at any batch of any epoch without reading
    what came before its buffer.

    Args:
        files: TFRecords, paths or globs, gzipped where the name ends in .gz.
        transform: tells which tensors an example holds.
        batch_size: rows a batch, of all shards together.
        shuffle: rows kept for shuffling; 0 keeps the files' order.
        seed: of the shuffle.
        grouped: whether the rows of a group are neighbours in their buffer.
            It keeps nine bytes of each row in memory.

    Raises:
        InputError: no such file, or one that is damaged.
    """

    def __init__(
        self,
        files: Sequence[str],
        transform: tft.TFTransformOutput,
        batch_size: int,
        shuffle: int = 0,
        seed: int = 0,
        grouped: bool = False,
    ) -> None:
        self._blocks = index(files)
        self._spec = transform.transformed_feature_spec()
        self._read = reader(self._blocks.files, self._spec)
        self.batch_size = batch_size
        self._shuffle = shuffle
        self._seed = seed
        # A buffer is a number of whole batches, so that none needs two.
        self._buffer = batch_size * max(
            1, -(-(shuffle or _ROWS_AT_ONCE) // batch_size)
        )
        self._starts = np.cumsum(self._blocks.rows) - self._blocks.rows
        self._groups, self._labels = np.zeros(0, np.int64), np.zeros(0, np.int8)
        if grouped:
            self._groups, self._labels = self._read_groups()

    def _read_groups(self) -> tuple[Ints, npt.NDArray[np.int8]]:
        """Group and label of every row, in the order of the files."""
        groups = [np.zeros(0, np.int64)]
        labels = [np.zeros(0, np.int8)]
        names = (GROUPS, LABEL)
        read = reader(self._blocks.files, {n: self._spec[n] for n in names})
        blocks = self._blocks
        for first in range(0, len(blocks), _BLOCKS_AT_ONCE):
            these = slice(first, first + _BLOCKS_AT_ONCE)
            rows = blocks.rows[these]
            pieces = np.stack(
                [blocks.file[these], blocks.offset[these], 0 * rows, rows], 1
            )
            found = read(tf.constant(pieces), tf.range(rows.sum()))
            groups.append(found[GROUPS].numpy())
            labels.append(found[LABEL].numpy().astype(np.int8))
        return np.concatenate(groups), np.concatenate(labels)

    def pairs(self, of: int = 1, partners: int | None = None) -> Pairs:
        """Pairs of the log, and of the batches of the first epoch.

        Args:
            of: pieces that a batch is cut into.
            partners: rows on either side that a row is compared with; None:
                all of its group.
        """
        total, comparable = count_pairs(self._groups, self._labels)
        seen = compared = 0
        for _, rows, where in self._plans(0, 0):
            chosen, ends = self._cut(rows, range(of), of)
            for first, last in pairwise(ends):
                part = where[chosen[first:last]]
                found = count_pairs(
                    self._groups[part], self._labels[part], partners
                )
                seen, compared = seen + found[0], compared + found[1]
        return Pairs(total, seen, self.rows, comparable, compared)

    @property
    def weighted(self) -> bool:
        """True where rows have weights."""
        return WEIGHT in self._spec

    @property
    def rows(self) -> int:
        """Rows of an epoch, of all shards together."""
        return self._blocks.total

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return steps_of(self.rows, self.batch_size)

    def epoch(
        self,
        number: int = 0,
        skip: int = 0,
        pieces: Sequence[int] = (0,),
        of: int = 1,
    ) -> Any:
        """A tf.data.Dataset of one epoch; see `stream` for the arguments."""
        return self.stream(number, skip, pieces, of, 1)

    def repeat(self, epochs: int | None = None) -> Any:
        """A tf.data.Dataset of the first epochs, one after another."""
        return self.stream(epochs=epochs)

    def __iter__(self) -> Any:
        return iter(self.epoch())

    def stream(
        self,
        epoch: int = 0,
        skip: int = 0,
        pieces: Sequence[int] = (0,),
        of: int = 1,
        epochs: int | None = None,
    ) -> Any:
        """Batches from batch `skip` of an epoch on, read ahead across epochs.

        Args:
            epoch: the first epoch's number, from 0.
            skip: batches of it to leave out.
            pieces: which ones of each batch, where replicas share batches;
                each comes as a batch of its own, and no others are parsed.
            of: in how many pieces a batch is cut; some may be empty.
            epochs: how many, the first one included; None never ends.

        Returns:
            A tf.data.Dataset of (inputs: name -> tensor, label float32 [N]),
            and where rows have weights of (inputs, label, weight float32 [N]).
        """

        def plans() -> Iterator[tuple[Ints, Ints, Ints]]:
            this, left_out = epoch, skip
            while self.rows and (epochs is None or this < epoch + epochs):
                for blocks, rows, _ in self._plans(this, left_out):
                    yield blocks, *self._cut(rows, pieces, of)
                this, left_out = this + 1, 0

        @_as_it_is
        def read(blocks: tf.Tensor, rows: tf.Tensor, ends: tf.Tensor) -> Any:
            return self._read(blocks, rows), ends

        @_as_it_is
        def split(columns: dict[str, Any], ends: tf.Tensor) -> Any:
            cuts = tf.data.Dataset.range(tf.size(ends, tf.int64) - 1)
            return cuts.map(
                lambda i: _batch(
                    {
                        name: value[ends[i] : ends[i + 1]]
                        for name, value in columns.items()
                    }
                )
            )

        data = tf.data.Dataset.from_generator(
            plans,
            output_signature=(
                tf.TensorSpec([None, 4], tf.int64),
                tf.TensorSpec([None], tf.int64),
                tf.TensorSpec([None], tf.int64),
            ),
        )
        data = data.map(read, num_parallel_calls=2, deterministic=True)
        return data.flat_map(split).prefetch(tf.data.AUTOTUNE)

    def _plans(
        self, epoch: int, skip: int
    ) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Reading plan of each buffer of an epoch, in order.

        Yields:
            Pieces of blocks [P, 4]: file, first byte of the block, rows to
            leave out, rows to take; and of the rows of the pieces together,
            which to give, in their order; and where they are in
            `self._groups`, if there are groups.
        """
        blocks = self._blocks
        order = np.arange(len(blocks))
        if self._shuffle:
            order = self._random(epoch, 0).permutation(order)
        rows = blocks.rows[order]
        ends = np.cumsum(rows)
        starts = ends - rows
        skip *= self.batch_size
        for first in range(skip - skip % self._buffer, self.rows, self._buffer):
            last = min(first + self._buffer, self.rows)
            these = slice(
                np.searchsorted(ends, first, "right"),
                np.searchsorted(starts, last, "left"),
            )
            leave = np.maximum(first - starts[these], 0)
            take = np.minimum(last - starts[these], rows[these]) - leave
            chosen = order[these]
            pieces = np.stack(
                [blocks.file[chosen], blocks.offset[chosen], leave, take], 1
            )
            random = None
            if self._shuffle:
                random = self._random(epoch, 1 + first // self._buffer)
            give = where = np.arange(last - first)
            if len(self._groups):
                where = ranges(self._starts[chosen] + leave, take)
                give = by_group(self._groups[where], random)
            elif random is not None:
                give = random.permutation(give)
            if skip < last:
                yield pieces, give[max(skip - first, 0) :], where

    def _cut(
        self, rows: Ints, pieces: Sequence[int], of: int
    ) -> tuple[Ints, Ints]:
        """The rows of these pieces of each batch, and where they end."""
        starts = np.arange(0, len(rows), self.batch_size)
        sizes = np.minimum(len(rows) - starts, self.batch_size)
        which = np.array(pieces)
        first = starts[:, None] + sizes[:, None] * which // of
        last = starts[:, None] + sizes[:, None] * (which + 1) // of
        ends = np.concatenate([[0], np.cumsum(last - first)])
        if of > 1:
            wanted = zip(first.ravel(), last.ravel(), strict=True)
            rows = np.concatenate([rows[a:b] for a, b in wanted])
        return rows, ends

    def _random(self, epoch: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, epoch, stream])


def steps_of(rows: int, batch_size: int) -> int:
    """Batches of a pass over `rows` rows; the last may be short."""
    return -(-rows // batch_size)


def _batch(columns: dict[str, Any]) -> tuple[Any, ...]:
    label = tf.cast(columns.pop(LABEL), tf.float32)
    if WEIGHT in columns:
        weight = columns.pop(WEIGHT)
        return columns, label, weight
    return columns, label
