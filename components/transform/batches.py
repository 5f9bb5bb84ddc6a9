"""Files of tf.Examples through a TensorFlow function, in large batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tensorflow as tf

_ROWS = 4096


def program(
    function: Callable[[dict[str, Any]], Any], spec: Mapping[str, Any]
) -> Any:
    """`function` of parsed rows, traced once for all files.

    Args:
        function: feature name -> tensor in, tensors out.
        spec: of the rows' features.
    """
    return tf.function(
        lambda rows: function(tf.io.parse_example(rows, spec)),
        input_signature=[tf.TensorSpec([None], tf.string)],
    ).get_concrete_function()


def batches(file: str, program: Any) -> Iterable[Any]:
    """`program` of each batch of rows.

    It runs on TensorFlow's threads, while the caller works on the batch
    before.

    Args:
        file: TFRecords, gzipped where the name ends in .gz; a path or a URI
            that TensorFlow reads.
        program: see there.
    """
    compression = "GZIP" if file.endswith(".gz") else ""
    data = tf.data.TFRecordDataset(file, compression).batch(_ROWS)
    return data.map(
        program, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    ).prefetch(1)
