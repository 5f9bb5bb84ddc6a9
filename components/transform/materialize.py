"""Transformed examples, a file for each file of raw ones."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.click_log_gen import tfrecords
from components.click_log_gen.examples import encode
from components.transform.batches import batches


class Materialize(beam.DoFn):
    """(file of raw examples, file to write) -> nothing.

    graph: folder of the transform, as `tft.TFTransformOutput` reads it.
    """

    def __init__(self, graph: str) -> None:
        self._graph = graph

    def setup(self) -> None:
        """Loads the transform, once a worker."""
        transform = tft.TFTransformOutput(self._graph)
        self._spec = transform.raw_feature_spec()
        self._function = transform.transform_features_layer()
        # A ragged tensor's values have a name of their own.
        self._names = {
            name: getattr(feature, "value_key", name)
            for name, feature in transform.transformed_feature_spec().items()
        }

    def process(self, files: tuple[str, str]) -> None:
        """Writes TFRecords, not compressed: they are small, and read often."""
        source, target = files
        with FileSystems.create(
            target, compression_type=CompressionTypes.UNCOMPRESSED
        ) as stream:
            for outputs in batches(source, self._spec, self._function):
                columns = {
                    written: column(outputs[name])
                    for name, written in self._names.items()
                }
                stream.write(tfrecords.frame(encode(columns)))


def column(tensor: Any) -> pa.Array:
    """[N], [N, width] or ragged [N, (values)], of float32 or int64."""
    if isinstance(tensor, tf.SparseTensor):
        tensor = tf.RaggedTensor.from_sparse(tensor)
    if isinstance(tensor, tf.RaggedTensor):
        values = tensor.flat_values.numpy()
        offsets = tensor.row_splits.numpy()
    else:
        values = tensor.numpy()
        if values.ndim == 1:
            return pa.array(values)
        rows, width = values.shape
        values, offsets = values.ravel(), np.arange(rows + 1) * width
    return pa.ListArray.from_arrays(
        pa.array(offsets.astype(np.int32)), pa.array(values)
    )
