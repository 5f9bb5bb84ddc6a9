"""Chunks of raw log to shards of labelled, split tf.Examples.

A chunk is converted at once where its rows depend on no other chunk. Otherwise
it is read and its encoded rows are spilled; they are routed to their splits
when the times of all rows are known.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa

from components.arrow_masks import Mask
from components.click_log_gen import encoded_rows
from components.click_log_gen.batch import Batch, ConversionSettings
from components.click_log_gen.columns import labels as label_columns
from components.click_log_gen.columns.event_time import Times
from components.click_log_gen.columns.feature_check import FeatureCheck
from components.click_log_gen.columns.weights import Weights, by_time
from components.click_log_gen.config.labels import LabelTask
from components.click_log_gen.encoded_rows import EncodedRows
from components.click_log_gen.files.chunks import Chunk, naming
from components.click_log_gen.formats import log_reader
from components.click_log_gen.history import events
from components.click_log_gen.history.build import Histories
from components.click_log_gen.label_events import spilled
from components.click_log_gen.label_events.build import Labels
from components.click_log_gen.output.row_counts import RowCounts
from components.click_log_gen.output.shards import Shards
from components.click_log_gen.splitting import split
from components.example_io.tf_example import encode_features, timed, wrap
from models.config.training import WEIGHT


def convert_chunk(chunk: Chunk, job: ConversionSettings) -> dict[str, Any]:
    """Converts one chunk; returns its counts. Same chunk, same bytes.

    Raises:
        InputError: the file as a whole cannot be read; with its name.
    """
    reading = _Reading(chunk, job)
    with naming(chunk.path), _shards(chunk, job) as shards:
        for batch in reading.batches(shards):
            _finish(batch.encoded, job, shards, reading.tally)
    return reading.counts()


def spill_chunk(chunk: Chunk, job: ConversionSettings) -> dict[str, Any]:
    """Reads one chunk for `route_chunk`; returns its counts and its times.

    Raises:
        InputError: the file as a whole cannot be read; with its name.
    """
    reading = _Reading(chunk, job)
    times, rows = [np.zeros(0, np.int64)], 0
    with (
        naming(chunk.path),
        _shards(chunk, job) as shards,
        encoded_rows.Writer(
            _spilled(chunk, job), job.data, job.keeps_times
        ) as writer,
        ExitStack() as stack,
    ):
        users = None
        if job.histories is not None:
            users = events.Writer(job.histories, chunk.number)
            stack.enter_context(users)
        labelled = None
        if job.label_events is not None:
            labelled = spilled.Writer(job.label_events, chunk.number)
            stack.enter_context(labelled)
        for batch in reading.batches(shards):
            times.append(batch.event_times)
            writer.add(batch.encoded)
            rows += len(batch.encoded.positive)
            if users is not None and batch.moments is not None:
                users.add(batch.history, batch.moments, batch.encoded.positive)
            if labelled is not None and batch.moments is not None:
                positive = batch.encoded.positive
                labelled.add(batch.label_keys, batch.moments, positive)
        if reading.partial:
            times = [split.event_times(chunk, job.data)]
    return (
        reading.counts()
        | split.described(chunk, job.data, np.concatenate(times), job.work)
        | {"rows": rows}
    )


def route_chunk(chunk: Chunk, job: ConversionSettings) -> dict[str, Any]:
    """Writes the rows that `spill_chunk` read to their splits; counts them."""
    tally = RowCounts()
    histories = None
    if job.histories is not None:
        histories = Histories(job.histories, chunk.number, job.counts)
    labels = None
    if job.label_events is not None:
        labels = Labels(job.label_events, chunk.number)
    first = 0
    with _shards(chunk, job) as shards:
        for rows in encoded_rows.read(_spilled(chunk, job)):
            count = len(rows.positive)
            pieces = iter([(0, count)])
            if histories is not None:
                pieces = histories.pieces(first, count)
            for start, stop in pieces:
                more: list[pa.BinaryArray] = []
                if histories is not None:
                    more += histories.of(first + start, stop - start)
                if labels is not None:
                    more += labels.of(first + start, stop - start)
                some = rows
                if stop - start < count:
                    some = rows.slice(start, stop)
                _finish(some, job, shards, tally, more)
            first += count
    return {"chunk": chunk.number, **tally.to_json()}


class _Reading:
    """One pass over a chunk, and what is counted on the way.

    partial: the reader refused rows for one of their columns, though they may
        have a time.
    """

    def __init__(self, chunk: Chunk, job: ConversionSettings) -> None:
        self.tally = RowCounts()
        self.partial = False
        self._chunk = chunk
        self._job = job
        self._wanted = job.wanted
        self._seen: set[str] = set()
        self._feature_check = FeatureCheck(job.ranges)

    def batches(self, shards: Shards) -> Iterator[Batch]:
        """The rows, some at a time; rejected ones go to `shards`."""
        chunk, job, tally = self._chunk, self._job, self.tally
        source = job.data.impressions
        for rows in log_reader.read(chunk, source, self._wanted):
            batch = Batch(rows, chunk, job)
            rejected = batch.rejected()
            tally.reject(rejected)
            shards.reject(rejected)
            tally.counts["read"] += rows.count + len(rows.rejected)
            yield batch
            self._feature_check.see(batch.columns)
            self._seen |= rows.filled(self._wanted.keys() - self._seen)
            self.partial |= any(row.of_column for row in rows.rejected)

    def counts(self) -> dict[str, Any]:
        """All counts, in JSON types."""
        return {
            "chunk": self._chunk.number,
            **self.tally.to_json(),
            **self._feature_check.to_json(),
            "absent": sorted(self._wanted.keys() - self._seen),
        }


def _shards(chunk: Chunk, job: ConversionSettings) -> Shards:
    return Shards(job.folders, chunk.number, job.chunks)


def _spilled(chunk: Chunk, job: ConversionSettings) -> str:
    return os.path.join(job.work, f"rows-{chunk.number:05d}")


def _finish(
    rows: EncodedRows,
    job: ConversionSettings,
    shards: Shards,
    tally: RowCounts,
    more: Sequence[pa.BinaryArray] = (),
) -> None:
    """Writes rows of a chunk to their splits, with `more` features."""
    features, weights = [rows.features], rows.weights
    config = job.data.weight
    if config is not None and config.by_time:
        assert rows.times is not None
        weights = by_time(rows.times, job.newest, config)
    if weights is not None:
        # Only now: a weight moves no row to another side.
        features.append(encode_features({WEIGHT: pa.array(weights)}))
    features += more
    sides = rows.sides
    if sides is None:
        assert rows.times is not None
        sides = job.cut.sides(rows.times)
    write(
        shards,
        tally,
        job.data.split.names,
        wrap(*features),
        rows.positive,
        sides,
        rows.sampled,
        rows.times,
        weights,
        job.train_times,
        job.data.further_labels,
    )


def write(
    shards: Shards,
    tally: RowCounts,
    names: Sequence[str],
    records: pa.BinaryArray,
    positive: Mask,
    sides: split.Sides,
    sampled: Mask,
    times: Times | None = None,
    weights: Weights | None = None,
    train_times: bool = False,
    further: Mapping[str, LabelTask] | None = None,
) -> None:
    """Writes each record to the shard of its side, and counts it.

    Of the negatives of train only those in `sampled` are written. Weights are
    added up. What is evaluated carries its time; train if `train_times`.
    `further` are the labels after the first, which are counted too.
    """
    left_out = (sides == 0) & ~positive & ~sampled
    sides = np.where(left_out, split.OUT, sides)
    tally.counts["sampled_out"] += int(left_out.sum())
    tally.counts["gap"] += int((sides == split.OUT).sum() - left_out.sum())
    tally.counts["kept"] += int((sides != split.OUT).sum())
    if further and len(records):
        tally.counts.update(
            label_columns.counted(records, further, positive, sides, names)
        )
    for number, name in enumerate(names):
        chosen = sides == number
        some = records.filter(pa.array(chosen))
        if times is not None and (number or train_times):
            some = timed(some, times[chosen])
        shards.write(name, some)
        tally.counts[name] += int(chosen.sum())
        tally.counts[f"positives_{name}"] += int((positive & chosen).sum())
        if times is not None:
            tally.see(name, times[chosen])
        if weights is not None:
            for label in (False, True):
                some = weights[chosen & (positive == label)]
                tally.weigh(name, label, float(some.sum(dtype=np.float64)))
