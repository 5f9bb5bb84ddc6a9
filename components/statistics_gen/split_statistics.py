"""TFDV's statistics of files of tf.Examples, by threads in one process.

Batches go through TFDV's own generators. Its exact counts of values are a Beam
pipeline with an element a value; here they are Arrow's, merged now and then, so
memory grows with distinct values and not with rows.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from tensorflow_data_validation import StatsOptions
from tensorflow_data_validation.arrow import arrow_util
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_data_validation.statistics.generators import stats_generator
from tensorflow_data_validation.utils import (
    stats_util,
    top_k_uniques_stats_util,
)
from tensorflow_data_validation.utils.example_weight_map import (
    ExampleWeightMap,
)
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx_bsl.arrow import array_util
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder
from tfx_bsl.statistics import merge_util

from components.data_checks import WITHOUT_VALUE
from components.statistics_gen.single_feature import Sample

_NO_WEIGHTS = ExampleWeightMap()
_ROWS = 1 << 15  # of a batch
_PENDING = 1 << 20  # counts of a feature kept apart before they are merged
_THREADS = min(4, os.cpu_count() or 1)

Path = tuple[str, ...]


def statistics_of(
    files: Sequence[str],
    rows: int = _ROWS,
    threads: int = _THREADS,
    sample: Sample | None = None,
) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Statistics of all rows, as TFX's StatisticsGen writes them for a split.

    Args:
        files: TFRecords of tf.Examples, gzipped where the name ends in .gz.
        rows: of a batch.
        threads: batches worked on at a time.
        sample: takes some of the rows; None: nobody does.
    """
    batches = _Batches(files, rows)
    workers = [_Accumulator(sample) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda worker: worker.take(batches), workers))
    first, *others = workers
    for other in others:
        first.merge(other)
    return merge_util.merge_dataset_feature_statistics(first.protos())


def fill(sample: Sample, files: Sequence[str]) -> None:
    """Gives a sample the first rows of each file, and computes nothing else."""
    decoder = ExamplesToRecordBatchDecoder()
    rows = -(-sample.size // max(len(files), 1))
    for number, file in enumerate(files):
        kind = "GZIP" if file.endswith(".gz") else ""
        data = tf.data.TFRecordDataset(file, kind).take(rows).batch(rows)
        for batch in data.as_numpy_iterator():
            sample.add(number, decoder.DecodeBatch(batch))


class _Batches:
    """Batches of serialized rows, handed out to several threads."""

    def __init__(self, files: Sequence[str], rows: int) -> None:
        self._iterator = enumerate(self._read(files, rows))
        self._lock = threading.Lock()

    def next(self) -> tuple[int, Any] | None:
        """Number of a batch, and its rows as bytes [rows]; None at the end."""
        with self._lock:
            return next(self._iterator, None)

    @staticmethod
    def _read(files: Sequence[str], rows: int) -> Iterator[Any]:
        for kind in ("", "GZIP"):
            some = [f for f in files if f.endswith(".gz") == (kind == "GZIP")]
            if some:
                data = tf.data.TFRecordDataset(
                    some, kind, buffer_size=1 << 20
                ).batch(rows)
                yield from data.prefetch(2).as_numpy_iterator()


class _Accumulator:
    """Statistics of one thread: TFDV's accumulators, and counts of values."""

    def __init__(self, sample: Sample | None = None) -> None:
        self._sample = sample
        self._options = StatsOptions()
        self._decoder = ExamplesToRecordBatchDecoder()
        self._generators = [
            g
            for g in stats_impl.get_generators(self._options)
            if isinstance(g, stats_generator.CombinerStatsGenerator)
        ]
        for generator in self._generators:
            generator.setup()
        self._parts = [g.create_accumulator() for g in self._generators]
        self._values: dict[Path, _ValueCounts] = {}
        self._rows = 0

    def take(self, batches: _Batches) -> None:
        """Adds batches until there are none left."""
        while (numbered := batches.next()) is not None:
            batch = self._decoder.DecodeBatch(numbered[1])
            self.add(batch)
            if self._sample is not None:
                self._sample.add(numbered[0], batch)

    def add(self, batch: pa.RecordBatch) -> None:
        """Adds one batch of rows."""
        self._rows += batch.num_rows
        self._parts = [
            generator.add_input(part, batch)
            for generator, part in zip(
                self._generators, self._parts, strict=True
            )
        ]
        for path, array, _ in arrow_util.enumerate_arrays(
            batch, example_weight_map=_NO_WEIGHTS, enumerate_leaves_only=True
        ):
            kind = stats_util.get_feature_type_from_arrow_type(path, array.type)
            if kind == statistics_pb2.FeatureNameStatistics.STRING:
                values, _ = array_util.flatten_nested(array, False)
                counts = self._values.setdefault(path.steps(), _ValueCounts())
                counts.add(values, array)

    def merge(self, other: _Accumulator) -> None:
        """Adds what another thread has seen."""
        self._rows += other._rows
        self._parts = [
            generator.merge_accumulators([one, two])
            for generator, one, two in zip(
                self._generators, self._parts, other._parts, strict=True
            )
        ]
        for path, counts in other._values.items():
            self._values.setdefault(path, _ValueCounts()).merge(counts)

    def protos(self) -> list[statistics_pb2.DatasetFeatureStatistics]:
        """The statistics, in parts that TFDV merges by feature."""
        if not self._rows:
            return [statistics_pb2.DatasetFeatureStatistics()]
        protos = []
        for generator, part in zip(self._generators, self._parts, strict=True):
            protos.append(generator.extract_output(generator.compact(part)))
        options = self._options
        most = max(options.num_top_values, options.num_rank_histogram_buckets)
        for path, counts in self._values.items():
            if counts.is_list:
                protos.append(_without_value(path, counts.empty))
            values, numbers, distinct = counts.top(most)
            if not distinct:
                continue
            count = top_k_uniques_stats_util.FeatureValueCount
            single = top_k_uniques_stats_util
            protos += [
                single.make_dataset_feature_stats_proto_topk_single(
                    feature_path_tuple=path,
                    value_count_list=[
                        count(value, number)
                        for value, number in zip(values, numbers, strict=True)
                    ],
                    is_weighted_stats=False,
                    num_top_values=options.num_top_values,
                    frequency_threshold=options.frequency_threshold,
                    num_rank_histogram_buckets=options.num_rank_histogram_buckets,
                ),
                single.make_dataset_feature_stats_proto_unique_single(
                    feature_path_tuple=path, num_uniques=distinct
                ),
            ]
        return protos


def _without_value(
    path: Path, rows: int
) -> statistics_pb2.DatasetFeatureStatistics:
    found = statistics_pb2.DatasetFeatureStatistics()
    feature = found.features.add()
    feature.path.step.extend(path)
    feature.custom_stats.add(name=WITHOUT_VALUE, num=rows)
    return found


class _ValueCounts:
    """How often each value of a feature was seen, exactly.

    empty: rows that have the feature with no value in it.
    is_list: whether a row has several values.
    """

    def __init__(self) -> None:
        self.empty = 0
        self.is_list = False
        self._parts: list[pa.Table] = []
        self._pending = 0

    def add(self, values: pa.Array, rows: pa.Array) -> None:
        """Counts the values of a batch, binary [values], and their rows."""
        lengths = pc.list_value_length(rows).drop_null().to_numpy()
        self.empty += int((lengths == 0).sum())
        self.is_list |= bool(lengths.max(initial=0) > 1)
        counts = values.value_counts()
        self._append(
            pa.table(
                {
                    "value": counts.field("values"),
                    "count": counts.field("counts"),
                }
            )
        )

    def merge(self, other: _ValueCounts) -> None:
        """Adds another's counts."""
        self.empty += other.empty
        self.is_list |= other.is_list
        for part in other._parts:
            self._append(part)

    def top(self, most: int) -> tuple[list[bytes], list[int], int]:
        """The commonest values, their counts, and how many values there are.

        Equal counts are in descending order of values, as in TFDV.
        """
        self._compact()
        if not self._parts:
            return [], [], 0
        (table,) = self._parts
        counts = table["count"].to_numpy()
        if len(counts) > most:
            # Only those that may be among the first are sorted by value.
            least = np.partition(counts, len(counts) - most)[-most]
            table = table.filter(pa.array(counts >= least))
        order = pc.sort_indices(
            table, [("count", "descending"), ("value", "descending")]
        )
        first = table.take(order[:most])
        return (
            first["value"].to_pylist(),
            first["count"].to_pylist(),
            len(counts),
        )

    def _append(self, part: pa.Table) -> None:
        self._parts.append(part)
        self._pending += len(part)
        if self._pending > max(_PENDING, 2 * len(self._parts[0])):
            self._compact()

    def _compact(self) -> None:
        if len(self._parts) > 1:
            table = pa.concat_tables(self._parts).group_by("value")
            summed = table.aggregate([("count", "sum")])
            self._parts = [summed.rename_columns(["value", "count"])]
        self._pending = sum(map(len, self._parts))
