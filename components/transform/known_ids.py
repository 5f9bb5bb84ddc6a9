"""The transform of decoded columns: vocabularies are looked up natively.

What is not a single value of a vocabulary goes through TensorFlow, by the
function that also serves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft

from components.example_io import native
from components.example_io.tfrecord import Records
from components.transform.columns import columns, counts, decodable, sparse
from models.config.training import CategoricalFeature, Features
from models.preprocessing import analyzers
from models.preprocessing.preprocessing_fn import (
    Analysis,
    by_vocabulary,
    transformed,
)

Ints = npt.NDArray[np.int64]


class ByColumns:
    """Transforms batches of rows; `of` makes it where it can be used."""

    def __init__(
        self,
        features: Features,
        transform: tft.TFTransformOutput,
        looked_up: list[CategoricalFeature],
        paths: Analysis,
        group: str | None = None,
    ) -> None:
        self._spec = transform.raw_feature_spec()
        self._looked_up = looked_up
        names = {f.name for f in looked_up}
        also = {group} if group is not None else set()
        self._rest = sorted((self._spec.keys() - names) | also)
        self._tables = {
            table: native.Vocabulary(_read(path))
            for table, path in paths.vocabularies.items()
            if any(f.rows == table for f in looked_up)
        }
        found = analyzers.kept(
            features,
            transform,
            [
                table
                for table, group in by_vocabulary(features).items()
                if all(f.name in names for f in group)
            ],
        )
        assert found is not None
        self._found = found  # keeps its tables
        self._function = tf.function(
            lambda rows, known: transformed(
                rows, features, found, known, group
            ),
            input_signature=[
                {
                    name: tf.SparseTensorSpec(
                        [None, None], self._spec[name].dtype
                    )
                    for name in self._rest
                },
                {f.name: tf.TensorSpec([None], tf.int64) for f in looked_up},
            ],
            autograph=False,
        ).get_concrete_function()

    @classmethod
    def of(
        cls,
        features: Features,
        transform: tft.TFTransformOutput,
        group: str | None = None,
    ) -> ByColumns | None:
        """None where TensorFlow has to do it all."""
        spec = transform.raw_feature_spec()
        crossed = {name for cross in features.crosses for name in cross.of}
        looked_up = [
            f
            for f in features.categorical
            if f.encode == "vocab" and f.list is None and f.name not in crossed
        ]
        if (
            not looked_up
            or not spec.keys() - {f.name for f in looked_up}
            or not decodable(spec)
            or not native.usable()
        ):
            return None
        paths = analyzers.kept(features, transform, by_vocabulary(features))
        if paths is None:
            return None
        return cls(features, transform, looked_up, paths, group)

    def __call__(self, records: Records) -> dict[str, Any]:
        """Output -> tensor, of some rows.

        Raises:
            OtherLayoutError: a parser has to read them.
        """
        rows = len(records)
        found = columns(records, self._spec)
        known = {
            f.name: tf.constant(self._ids(f, found.get(f.name), rows))
            for f in self._looked_up
        }
        rest = {
            name: sparse(found.get(name), self._spec[name].dtype, rows)
            for name in self._rest
        }
        outputs: dict[str, Any] = self._function(rest, known)
        return outputs

    def _ids(
        self,
        feature: CategoricalFeature,
        column: pa.LargeListArray | None,
        rows: int,
    ) -> Ints:
        ids = np.zeros(rows, np.int64)
        if column is None:
            return ids
        there = counts(column) > 0
        table = self._tables[feature.rows]
        found = table.ids(column.values)
        unknown = np.flatnonzero(found < 0)
        if len(unknown):
            found[unknown] = 1 + table.size
            if feature.oov_buckets > 1:
                values = column.values.take(pa.array(unknown)).to_pylist()
                found[unknown] += tf.strings.to_hash_bucket_fast(
                    values, feature.oov_buckets
                ).numpy()
        ids[there] = found
        return ids


def _read(path: str) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as file:
        text: bytes = file.read()
    return text
