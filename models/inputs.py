"""Transformed examples on disk to batches of model inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from models.config import LABEL


def batches(
    files: Sequence[str],
    transform: tft.TFTransformOutput,
    batch_size: int,
    shuffle: int = 0,
    seed: int = 0,
) -> Any:
    """One pass over `files` (paths or globs), the last batch may be short.

    Args:
        files: TFRecords, gzipped where the name ends in .gz.
        transform: tells which tensors an example holds.
        batch_size: rows a batch.
        shuffle: rows kept for shuffling; 0 keeps the files' order.
        seed: of the shuffle; each pass shuffles anew.

    Returns:
        A tf.data.Dataset of (inputs: name -> tensor, label float32 [N]).
    """
    spec = transform.transformed_feature_spec()

    def parse(serialized: tf.Tensor) -> tuple[dict[str, Any], tf.Tensor]:
        inputs = tf.io.parse_example(serialized, spec)
        for name, value in inputs.items():
            if isinstance(value, tf.SparseTensor):
                inputs[name] = tf.RaggedTensor.from_sparse(value)
        label = tf.cast(inputs.pop(LABEL), tf.float32)
        return inputs, label

    data = tf.data.Dataset.list_files(list(files), shuffle=False)
    data = data.interleave(
        lambda path: tf.data.TFRecordDataset(path, _compression(path)),
        cycle_length=4 if shuffle else 1,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    if shuffle:
        data = data.shuffle(shuffle, seed=seed, reshuffle_each_iteration=True)
    data = data.batch(batch_size)
    data = data.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    return data.prefetch(tf.data.AUTOTUNE)


def _compression(path: tf.Tensor) -> tf.Tensor:
    gzipped = tf.strings.regex_full_match(path, r".*\.gz")
    return tf.where(gzipped, "GZIP", "")
