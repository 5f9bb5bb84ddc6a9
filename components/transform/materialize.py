"""Transformed examples, a file for each file of raw ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.utils import shared

from components.example_io import tfrecord
from components.example_io.tf_example import encode
from components.transform.batches import batches, program


@dataclass(frozen=True)
class _Loaded:
    """The transform as a program, and output -> feature to write.

    layer: holds the vocabularies' tables, which end with it.
    """

    layer: Any
    program: Any
    names: dict[str, str]


class Materialize(beam.DoFn):
    """(file of raw examples, file to write) -> nothing.

    graph: folder of the transform, as `tft.TFTransformOutput` reads it.
    """

    def __init__(self, graph: str) -> None:
        self._graph = graph
        self._shared = shared.Shared()

    def setup(self) -> None:
        """Loads the transform, once a process: vocabularies are large."""
        self._loaded = self._shared.acquire(self._load)

    def _load(self) -> _Loaded:
        transform = tft.TFTransformOutput(self._graph)
        layer = transform.transform_features_layer()
        return _Loaded(
            layer,
            program(layer, transform.raw_feature_spec()),
            # A ragged tensor's values have a name of their own.
            {
                name: getattr(feature, "value_key", name)
                for name, feature in (
                    transform.transformed_feature_spec().items()
                )
            },
        )

    def process(self, files: tuple[str, str]) -> None:
        """Writes TFRecords, not compressed: they are small, and read often."""
        source, target = files
        with FileSystems.create(
            target, compression_type=CompressionTypes.UNCOMPRESSED
        ) as stream:
            for outputs in batches(source, self._loaded.program):
                columns = {
                    written: column(outputs[name])
                    for name, written in self._loaded.names.items()
                }
                stream.write(tfrecord.frame(encode(columns)))


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
