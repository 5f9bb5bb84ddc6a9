"""One chunk of raw log to shards of labelled, split tf.Examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from components.arrow_masks import Mask
from components.click_log_gen.columns import labels, weights
from components.click_log_gen.columns.event_time import (
    Times,
    event_time,
    reading,
    text_of,
)
from components.click_log_gen.columns.feature_check import FeatureCheck
from components.click_log_gen.columns.rows import (
    Column,
    ColumnForm,
    Rejected,
    Rows,
    Verdicts,
    refuse_unequal,
    typed,
)
from components.click_log_gen.columns.weights import Weights
from components.click_log_gen.config.sections import DataConfig, LabelRule
from components.click_log_gen.files.chunks import Chunk, naming
from components.click_log_gen.formats import log_reader
from components.click_log_gen.history import events
from components.click_log_gen.history.events import HistorySettings
from components.click_log_gen.output.row_counts import RowCounts
from components.click_log_gen.output.shards import Shards
from components.click_log_gen.splitting import split
from components.example_io.tf_example import (
    encode_features,
    timed,
    wrap,
)
from models.config.training import LABEL, WEIGHT


@dataclass(frozen=True)
class ConversionSettings:
    """All that a worker needs besides the chunk."""

    data: DataConfig
    columns: Mapping[str, ColumnForm]
    folders: Mapping[str, str]
    chunks: int
    cut: split.Cut = split.NO_CUT
    first_rows: tuple[int, ...] = ()  # chunk number -> rows before it
    ranges: Mapping[str, int] = field(default_factory=dict)  # integers below
    newest: int = 0  # time of the newest row, for weights by age
    histories: HistorySettings | None = None


def convert_chunk(chunk: Chunk, job: ConversionSettings) -> dict[str, Any]:
    """Converts one chunk; returns its counts. Same chunk, same bytes.

    Raises:
        InputError: the file as a whole cannot be read; with its name.
    """
    reading = Reading(chunk, job)
    shards = Shards(job.folders, chunk.number, job.chunks)
    with naming(chunk.path), shards:
        for batch in reading.batches(shards):
            write(
                shards,
                reading.tally,
                job.data.split.names,
                batch.records,
                batch.positive,
                batch.sides,
                batch.sampled,
                batch.times,
                batch.weights,
            )
    return reading.to_json()


class Reading:
    """A chunk's rows, batch after batch, and their counts.

    tally: of all rows so far.
    """

    def __init__(self, chunk: Chunk, job: ConversionSettings) -> None:
        self._chunk = chunk
        self._job = job
        self.tally = RowCounts()
        self._seen: set[str] = set()
        self._feature_check = FeatureCheck(job.ranges)
        self._wanted = _wanted(job)

    def batches(self, shards: Shards) -> Iterator[Batch]:
        """The good rows; the others go to `shards`."""
        source = self._job.data.impressions
        for rows in log_reader.read(self._chunk, source, self._wanted):
            batch = Batch(rows, self._chunk, self._job)
            rejected = batch.rejected()
            self.tally.reject(rejected)
            shards.reject(rejected)
            self.tally.counts["read"] += rows.count + len(rows.rejected)
            yield batch
            self._feature_check.see(batch.columns)
            self._seen |= rows.filled(self._wanted.keys() - self._seen)

    def to_json(self) -> dict[str, Any]:
        """All counts in JSON types."""
        return {
            "chunk": self._chunk.number,
            **self.tally.to_json(),
            **self._feature_check.to_json(),
            "absent": sorted(self._wanted.keys() - self._seen),
        }


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
) -> None:
    """Writes each record to the shard of its side, and counts it.

    Of the negatives of train only those in `sampled` are written. Weights are
    added up.
    """
    left_out = (sides == 0) & ~positive & ~sampled
    sides = np.where(left_out, split.OUT, sides)
    tally.counts["sampled_out"] += int(left_out.sum())
    tally.counts["gap"] += int((sides == split.OUT).sum() - left_out.sum())
    tally.counts["kept"] += int((sides != split.OUT).sum())
    for number, name in enumerate(names):
        chosen = sides == number
        some = records.filter(pa.array(chosen))
        if times is not None and number:  # what is evaluated, not train
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


def _wanted(job: ConversionSettings) -> dict[str, str]:
    """Columns to read -> what they will be read as."""
    data = job.data
    wanted = {name: form.reads for name, form in job.columns.items()}
    assert data.label is not None and data.label_column is not None
    wanted.setdefault(data.label_column, labels.kind(data.label))
    if data.weight is not None and data.weight.source is not None:
        wanted.setdefault(data.weight.source, "float")
    if data.reads_time and data.time is not None:
        time = data.time.column
        wanted[time] = reading(wanted.get(time))
    for name in (*data.split.key, *data.negatives.key):
        # As text, whatever else the column is, so that none is rounded.
        wanted[name] = "string"
    if job.histories is not None:
        wanted = events.wanted(job.histories, wanted)
    return wanted


class Batch:
    """Some rows on their way to tf.Examples.

    records: the good rows, serialized. positive: whether their label is 1.
    sides: where they go. sampled: which are trained on if they are negative.
    columns: the features of the good rows. times: when they happened, if asked.
    weights: how much they count; None: alike. features: what `records` wrap.
    moments: when they happened, and history: what they tell of their users, if
    there are histories.
    """

    def __init__(
        self, rows: Rows, chunk: Chunk, job: ConversionSettings
    ) -> None:
        self._rows = rows
        self._chunk = chunk
        self._job = job
        self._verdicts = Verdicts.none(rows.count)
        data = job.data
        columns = {
            name: typed(
                rows.columns[name],
                form.kind,
                self._column(name, form),
                self._verdicts,
            )
            for name, form in job.columns.items()
            if form.kind != "time"
        }
        refuse_unequal(columns, job.columns, self._verdicts)
        assert data.label is not None and data.label_column is not None
        features = tuple(job.columns)
        columns[LABEL] = labels.label(
            rows.columns[data.label_column],
            self._column(data.label_column),
            data.label if isinstance(data.label, LabelRule) else None,
            self._verdicts,
        )
        times = self._times()
        for name, form in job.columns.items():
            if form.kind == "time" and times is not None:
                columns[name] = text_of(times)
        self.times = times if data.reads_time else None
        self.moments, self.history = times, []
        if job.histories is not None:
            nulls = data.impressions.null_values
            self.history = events.read(
                rows, nulls, job.histories, self._verdicts
            )
        sides = self._sides()
        self.weights = self._weights()
        keys = self._keys(data.negatives.key)
        good = self._verdicts.good
        if not good.all():
            chosen = pa.array(good)
            columns = {n: array.filter(chosen) for n, array in columns.items()}
        self.columns = {name: columns[name] for name in features}
        self.history = [
            {n: array.filter(pa.array(good)) for n, array in columns_.items()}
            for columns_ in self.history
        ]
        if self.moments is not None:
            self.moments = self.moments[good]
        if self.times is not None:
            self.times = self.times[good]
        if self.weights is not None:
            self.weights = self.weights[good]
        self.positive: Mask = columns[LABEL].to_numpy() == 1
        self.sides: split.Sides
        if sides is None:
            # Without the label: else an ad's clicks would go one way and what
            # else it had another.
            label = encode_features({LABEL: columns.pop(LABEL)})
            features = encode_features(columns) if columns else label
            pieces = [features, label] if columns else [label]
            self.sides = split.hash_sides(features, data.split)
        else:
            pieces = [encode_features(columns)]
            self.sides = sides[good]
        self.features = pieces
        self.records = wrap(*pieces)
        if keys is not None:
            keys = keys.filter(pa.array(good))
        elif data.negatives.keep < 1.0:
            keys = split.told_apart(self.records)
        else:
            keys = self.records
        self.sampled: Mask = split.kept(keys, data.negatives)
        if self.weights is not None:
            # Only now: a weight moves no row to another side.
            weight = {WEIGHT: pa.array(self.weights)}
            self.features = [*pieces, encode_features(weight)]
            self.records = wrap(*self.features)

    def rejected(self) -> list[Rejected]:
        """The rows that are not in `records`, in order."""
        return self._rows.refused(self._chunk.path, self._verdicts.reasons)

    def _column(self, name: str, form: ColumnForm | None = None) -> Column:
        nulls = self._job.data.impressions.null_values
        return self._rows.column(name, nulls, form)

    def _sides(self) -> split.Sides | None:
        """Where rows go; None: the example's features tell."""
        data, rows = self._job.data, self._rows
        if data.split.by == "order":
            before = self._job.first_rows[self._chunk.number]
            return self._job.cut.sides(rows.ordinal + before)
        if data.split.by == "time":
            assert self.times is not None
            return self._job.cut.sides(self.times)
        if not data.split.key:
            return None
        return split.key_sides(
            self._columns(data.split.key), data.split, self._verdicts
        )

    def _times(self) -> Times | None:
        data = self._job.data
        forms = self._job.columns.values()
        wanted = any(form.kind == "time" for form in forms)
        wanted |= self._job.histories is not None
        if not (wanted or data.reads_time):
            return None
        assert data.time is not None
        return event_time(
            self._rows.columns[data.time.column],
            self._column(data.time.column),
            self._verdicts,
            data.time,
        )

    def _weights(self) -> Weights | None:
        config = self._job.data.weight
        if config is None:
            return None
        if config.source is not None:
            return weights.weights(
                self._rows.columns[config.source],
                self._column(config.source),
                config,
                self._verdicts,
            )
        assert self.times is not None
        return weights.by_time(self.times, self._job.newest, config)

    def _keys(self, names: Sequence[str]) -> pa.BinaryArray | None:
        if not names:
            return None
        return split.keys_of(self._columns(names), self._verdicts)

    def _columns(self, names: Sequence[str]) -> list[tuple[pa.Array, Column]]:
        return [(self._rows.columns[n], self._column(n)) for n in names]
