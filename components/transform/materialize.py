"""Transformed examples, a file for each file of raw ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from functools import cached_property
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
from components.example_io.native import OtherLayoutError
from components.example_io.record_files import record_blocks
from components.example_io.tf_example import encode
from components.transform.batches import batches, program
from components.transform.columns import BYTES, ROWS
from components.transform.known_ids import ByColumns
from models.config.training import Features


class _Transform:
    """Parts of a transform that a process needs, each loaded when it is used.

    names: output -> feature to write.
    """

    def __init__(
        self, graph: str, features: Features, group: str | None
    ) -> None:
        self._transform = tft.TFTransformOutput(graph)
        self._by_columns = ByColumns.of(features, self._transform, group)
        self._lock = threading.Lock()
        # A ragged tensor's values have a name of their own.
        spec = self._transform.transformed_feature_spec()
        self.names = {
            name: getattr(feature, "value_key", name)
            for name, feature in spec.items()
        }

    def outputs(self, file: str) -> Iterator[Mapping[str, Any]]:
        """Output -> tensor, of each batch of rows of a file."""
        if self._by_columns is None:
            yield from batches(file, self._program)
            return
        for records in record_blocks(file, ROWS, BYTES):
            try:
                yield self._by_columns(records)
            except OtherLayoutError:
                yield self._program(tf.constant(records.to_list(), tf.string))

    @property
    def _program(self) -> Any:
        with self._lock:
            return self._graph[1]

    @cached_property
    def _graph(self) -> tuple[Any, Any]:
        """Transform's graph, which holds the vocabularies, as a program."""
        layer = self._transform.transform_features_layer()
        return layer, program(layer, self._transform.raw_feature_spec())


class Materialize(beam.DoFn):
    """(file of raw examples, file to write) -> nothing.

    graph: folder of the transform, as `tft.TFTransformOutput` reads it.
    features: the config section.
    group: column whose value is the row's group, for the loss.
    """

    def __init__(
        self, graph: str, features: Features, group: str | None = None
    ) -> None:
        self._group = group
        self._graph = graph
        self._features = features
        self._shared = shared.Shared()

    def setup(self) -> None:
        """Loads the transform, once a process: vocabularies are large."""
        self._loaded = self._shared.acquire(
            lambda: _Transform(self._graph, self._features, self._group)
        )

    def process(self, files: tuple[str, str]) -> None:
        """Writes TFRecords, not compressed: they are small, and read often."""
        source, target = files
        with FileSystems.create(
            target, compression_type=CompressionTypes.UNCOMPRESSED
        ) as stream:
            for outputs in self._loaded.outputs(source):
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
