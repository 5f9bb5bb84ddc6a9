"""Transformed examples on disk to batches of model inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from models.config import LABEL

if TYPE_CHECKING:
    import tensorflow_transform as tft


class Batches:
    """Passes over transformed examples; each epoch shuffles anew.

    The same seed gives the same batches in the same order, whatever the
    threads; a pass may begin at any batch.

    Args:
        files: TFRecords (paths or globs), gzipped where the name ends in .gz.
        transform: tells which tensors an example holds.
        batch_size: rows a batch.
        shuffle: rows kept for shuffling; 0 keeps the files' order.
        seed: of the shuffle.
    """

    def __init__(
        self,
        files: Sequence[str],
        transform: tft.TFTransformOutput,
        batch_size: int,
        shuffle: int = 0,
        seed: int = 0,
    ) -> None:
        self._files = list(files)
        self._parse = _parser(transform.transformed_feature_spec())
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._seed = seed

    def epoch(
        self,
        number: int,
        skip: int = 0,
        pieces: Sequence[int] = (0,),
        of: int = 1,
    ) -> Any:
        """A tf.data.Dataset of (inputs: name -> tensor, label float32 [N]).

        Args:
            number: of the pass, from 0.
            skip: batches to leave out at its beginning.
            pieces: which ones of each batch, where replicas share batches;
                each comes as a batch of its own.
            of: in how many pieces a batch is cut; some may be empty.
        """
        data = tf.data.Dataset.list_files(self._files, shuffle=False)
        data = data.interleave(
            lambda path: tf.data.TFRecordDataset(path, _compression(path)),
            cycle_length=4 if self._shuffle else 1,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        if self._shuffle:
            seed = self._seed + 1_000_003 * number
            data = data.shuffle(self._shuffle, seed=seed)
        data = data.batch(self._batch_size).skip(skip)
        if of > 1:
            wanted = tf.constant(list(pieces))

            def cut(batch: tf.Tensor) -> Any:
                rows = tf.size(batch)
                return tf.data.Dataset.from_tensor_slices(wanted).map(
                    lambda i: batch[rows * i // of : rows * (i + 1) // of]
                )

            data = data.flat_map(cut)
        data = data.map(self._parse, num_parallel_calls=tf.data.AUTOTUNE)
        return data.prefetch(tf.data.AUTOTUNE)


def batches(
    files: Sequence[str], transform: tft.TFTransformOutput, batch_size: int
) -> Any:
    """One pass in the files' order, the last batch may be short."""
    return Batches(files, transform, batch_size).epoch(0)


def _parser(spec: Any) -> Any:
    def parse(serialized: tf.Tensor) -> tuple[dict[str, Any], tf.Tensor]:
        inputs = tf.io.parse_example(serialized, spec)
        for name, value in inputs.items():
            if isinstance(value, tf.SparseTensor):
                inputs[name] = tf.RaggedTensor.from_sparse(value)
        label = tf.cast(inputs.pop(LABEL), tf.float32)
        return inputs, label

    return parse


def _compression(path: tf.Tensor) -> tf.Tensor:
    gzipped = tf.strings.regex_full_match(path, r".*\.gz")
    return tf.where(gzipped, "GZIP", "")
