"""TFDV's statistics of files of tf.Examples, by threads in one process.

Batches go through TFDV's own generators. Its exact counts of values are a Beam
pipeline with an element a value; here they are Arrow's, merged now and then
and kept in files beyond a bound, so memory grows neither with rows nor with
distinct values.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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
from tfx_bsl.statistics import merge_util

from components.data_checks import DISTINCT_LISTS, WITHOUT_VALUE
from components.example_io.record_files import columns_of, record_blocks
from components.example_io.tfrecord import Records
from components.statistics_gen.distinct_lists import DistinctLists
from components.statistics_gen.single_feature import Sample
from components.statistics_gen.value_counts import ValueCounts

_NO_WEIGHTS = ExampleWeightMap()
_ROWS = 1 << 15  # of a batch
_BYTES = 24 << 20  # read for one or more batches
_THREADS = min(4, os.cpu_count() or 1)

Steps = tuple[str, ...]


def statistics_of(
    files: Sequence[str],
    rows: int = _ROWS,
    threads: int = _THREADS,
    sample: Sample | None = None,
    weighted: Mapping[str, str] | None = None,
    sequences: Collection[str] = (),
) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Statistics of all rows, as TFX's StatisticsGen writes them for a split.

    Args:
        files: TFRecords of tf.Examples, gzipped where the name ends in .gz.
        rows: of a batch.
        threads: batches worked on at a time.
        sample: takes some of the rows; None: nobody does.
        weighted: list whose values have weights -> what separates the two.
        sequences: columns whose distinct lists are counted.
    """
    batches = _Batches(files, rows)
    weighted = weighted or {}
    with tempfile.TemporaryDirectory(prefix="lionctr-statistics-") as folder:
        values = _Values(Path(folder))
        workers = [
            _Accumulator(values, sample, weighted, sequences)
            for _ in range(threads)
        ]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda worker: worker.take(batches), workers))
        first, *others = workers
        for other in others:
            first.merge(other)
        return merge_util.merge_dataset_feature_statistics(first.protos())


def fill(
    sample: Sample, files: Sequence[str], weighted: Mapping[str, str]
) -> None:
    """Gives a sample the first rows of each file, and computes nothing else."""
    rows = -(-sample.size // max(len(files), 1))
    for number, file in enumerate(files):
        left = rows
        for records in record_blocks(file, rows, _BYTES):
            batch = without_weights(columns_of(records), weighted)
            sample.add(number, batch.slice(0, left))
            left -= batch.num_rows
            if left <= 0:
                break


class _Batches:
    """Batches of serialized rows, handed out to several threads."""

    def __init__(self, files: Sequence[str], rows: int) -> None:
        self._iterator = enumerate(self._read(files, rows))
        self._lock = threading.Lock()

    def next(self) -> tuple[int, Records] | None:
        """Number of a batch, and its rows; None at the end."""
        with self._lock:
            return next(self._iterator, None)

    @staticmethod
    def _read(files: Sequence[str], rows: int) -> Iterator[Records]:
        for file in files:
            yield from record_blocks(file, rows, _BYTES)


class _Values:
    """Counts of the values of each feature, by all threads.

    found: path of the feature -> its counts.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self.found: dict[Steps, ValueCounts] = {}

    def of(self, path: Steps) -> ValueCounts:
        """The counts of a feature."""
        with self._lock:
            if path not in self.found:
                folder = self._folder / str(len(self.found))
                self.found[path] = ValueCounts(folder)
            return self.found[path]


class _Accumulator:
    """Statistics of one thread: TFDV's accumulators, and counts of values."""

    def __init__(
        self,
        values: _Values,
        sample: Sample | None,
        weighted: Mapping[str, str],
        sequences: Collection[str],
    ) -> None:
        self._values = values
        self._sequences = {name: DistinctLists() for name in sequences}
        self._weighted = weighted
        self._sample = sample
        self._options = StatsOptions()
        self._generators = [
            g
            for g in stats_impl.get_generators(self._options)
            if isinstance(g, stats_generator.CombinerStatsGenerator)
        ]
        for generator in self._generators:
            generator.setup()
        self._parts = [g.create_accumulator() for g in self._generators]
        self._rows = 0
        # Rows that have the feature and no value; features of several values.
        self._without: dict[Steps, int] = {}
        self._lists: set[Steps] = set()

    def take(self, batches: _Batches) -> None:
        """Adds batches until there are none left."""
        while (numbered := batches.next()) is not None:
            batch = without_weights(columns_of(numbered[1]), self._weighted)
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
                self._values.of(path.steps()).add(values)
                self._count_rows(path.steps(), array)
        for name, lists in self._sequences.items():
            place = batch.schema.get_field_index(name)
            if place >= 0 and not pa.types.is_null(batch.column(place).type):
                lists.add(batch.column(place))

    def _count_rows(self, path: Steps, rows: pa.Array) -> None:
        """Counts rows with the feature and no value; are others lists?"""
        lengths = pc.list_value_length(rows).drop_null().to_numpy()
        empty = int((lengths == 0).sum())
        self._without[path] = self._without.get(path, 0) + empty
        if lengths.max(initial=0) > 1:
            self._lists.add(path)

    def merge(self, other: _Accumulator) -> None:
        """Adds what another thread has seen."""
        self._lists |= other._lists
        for name, lists in self._sequences.items():
            lists.merge(other._sequences[name])
        for path, rows in other._without.items():
            self._without[path] = self._without.get(path, 0) + rows
        self._rows += other._rows
        self._parts = [
            generator.merge_accumulators([one, two])
            for generator, one, two in zip(
                self._generators, self._parts, other._parts, strict=True
            )
        ]

    def protos(self) -> list[statistics_pb2.DatasetFeatureStatistics]:
        """The statistics, in parts that TFDV merges by feature."""
        if not self._rows:
            return [statistics_pb2.DatasetFeatureStatistics()]
        protos = []
        for generator, part in zip(self._generators, self._parts, strict=True):
            protos.append(generator.extract_output(generator.compact(part)))
        options = self._options
        most = max(options.num_top_values, options.num_rank_histogram_buckets)
        protos += [
            _custom(path, WITHOUT_VALUE, rows)
            for path, rows in self._without.items()
            if path in self._lists
        ]
        protos += [
            _custom((name,), DISTINCT_LISTS, lists.count())
            for name, lists in self._sequences.items()
            if lists.count()
        ]
        for path, counts in self._values.found.items():
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


def without_weights(
    batch: pa.RecordBatch, weighted: Mapping[str, str]
) -> pa.RecordBatch:
    """The batch with `a` for each `a:0.3` of a list with weights."""
    for name, separator in weighted.items():
        place = batch.schema.get_field_index(name)
        if place < 0 or pa.types.is_null(batch.column(place).type):
            continue
        lists = batch.column(place)
        pattern = rf"(?s)^(.*){re.escape(separator)}.*$"
        texts = lists.flatten().cast(pa.large_string())
        values = pc.replace_substring_regex(texts, pattern, r"\1")
        counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        shorter = pa.LargeListArray.from_arrays(
            pa.array(np.r_[0, np.cumsum(counts)].astype(np.int64)),
            values.cast(pa.large_binary()),
            mask=lists.is_null(),
        )
        batch = batch.set_column(place, name, shorter)
    return batch


def _custom(
    path: Steps, name: str, number: int
) -> statistics_pb2.DatasetFeatureStatistics:
    found = statistics_pb2.DatasetFeatureStatistics()
    feature = found.features.add()
    feature.path.step.extend(path)
    feature.custom_stats.add(name=name, num=number)
    return found
