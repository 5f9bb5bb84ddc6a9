"""Blocks of TFRecords to tensors, by TensorFlow's own operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

_BUFFER_BYTES = 1 << 20
Read = Callable[[tf.Tensor, tf.Tensor], dict[str, Any]]


def reader(files: Sequence[str], spec: Mapping[str, Any]) -> Read:
    """A function of (pieces int64 [P, 4], rows int64 [N]) -> tensors.

    A piece is (file's number, first byte of a block, rows to leave out, rows
    to take); `rows` are those of the pieces together that are wanted, in that
    order.
    """
    paths = tf.constant(list(files), tf.string)

    @tf.autograph.experimental.do_not_convert
    def records(piece: tf.Tensor) -> Any:
        data = tf.data.experimental.from_variant(
            tf.raw_ops.TFRecordDatasetV2(
                filenames=paths[piece[0]][None],
                compression_type="",
                buffer_size=_BUFFER_BYTES,
                byte_offsets=piece[1][None],
            ),
            tf.TensorSpec([], tf.string),
        )
        return data.skip(piece[2]).take(piece[3])

    def read(pieces: tf.Tensor, rows: tf.Tensor) -> dict[str, Any]:
        data = tf.data.Dataset.from_tensor_slices(pieces).flat_map(records)
        total = tf.reduce_sum(pieces[:, 3])
        examples = data.batch(total).get_single_element()
        inputs = tf.io.parse_example(tf.gather(examples, rows), dict(spec))
        for name, value in inputs.items():
            if isinstance(value, tf.SparseTensor):
                inputs[name] = tf.RaggedTensor.from_sparse(value)
        return inputs

    return read
