"""Files of tf.Examples through a TensorFlow function, in large batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tensorflow as tf

_ROWS = 4096


def batches(
    file: str,
    spec: Mapping[str, Any],
    function: Callable[[dict[str, Any]], Any],
) -> Iterable[Any]:
    """`function` of the parsed rows of each batch.

    Both run on TensorFlow's threads, while the caller works on the batch
    before.

    Args:
        file: TFRecords, gzipped where the name ends in .gz; a path or a URI
            that TensorFlow reads.
        spec: of the rows' features.
        function: feature name -> tensor in, tensors out.
    """
    compression = "GZIP" if file.endswith(".gz") else ""
    data = tf.data.TFRecordDataset(file, compression).batch(_ROWS)
    return data.map(
        lambda serialized: function(tf.io.parse_example(serialized, spec)),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    ).prefetch(1)
