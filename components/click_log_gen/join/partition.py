"""First pass of the join: a chunk of either log to rows cut by key."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.click_log_gen.columns import labels, weights
from components.click_log_gen.columns.event_time import (
    event_time,
    reading,
    text_of,
)
from components.click_log_gen.columns.feature_check import FeatureCheck
from components.click_log_gen.columns.rows import (
    Column,
    ColumnForm,
    Rows,
    Verdicts,
    refuse_unequal,
    typed,
)
from components.click_log_gen.config.event_logs import ClickFiles
from components.click_log_gen.config.labels import LabelRule
from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.config.sections import DataConfig
from components.click_log_gen.files.chunks import Chunk, naming
from components.click_log_gen.formats import log_reader
from components.click_log_gen.history import events
from components.click_log_gen.history.events import HistorySettings
from components.click_log_gen.label_events.spilled import (
    LabelSettings,
    row_keys,
)
from components.click_log_gen.output import spill
from components.click_log_gen.output.row_counts import RowCounts
from components.click_log_gen.output.shards import Shards
from components.click_log_gen.splitting import split
from components.example_io.tf_example import encode_features
from models.config.event_time import TimeColumn
from models.config.training import LABEL

_ROW = [
    ("key", pa.binary()),
    ("time", pa.int64()),
    ("ordinal", pa.int64()),  # among all rows of the chunk
    ("where", pa.string()),
    ("row", pa.binary()),  # as it was read
    ("features", pa.binary()),  # as they will be in the example
]
_IMPRESSION = [*_ROW, ("side", pa.int8()), ("sampled", pa.bool_())]
# fault: why the click was rejected. Its impression cannot be used either.
_CLICK = [*_ROW, ("label", pa.int8()), ("fault", pa.string())]
_WEIGHT = ("weight", pa.float32())  # in the log that has its column


@dataclass(frozen=True)
class PartitionSettings:
    """All that a worker needs besides the chunk.

    shown: chunks of impressions; those of clicks have higher numbers.
    """

    data: DataConfig
    columns: Mapping[str, ColumnForm]
    folders: Mapping[str, str]
    work: str
    shown: int
    chunks: int
    partitions: int
    ranges: Mapping[str, int]  # column -> its integers are below
    histories: HistorySettings | None = None
    label_events: LabelSettings | None = None
    train_times: bool = False  # the rows of train carry theirs too

    @property
    def clicks(self) -> ClickFiles:
        """The section `data.clicks`."""
        assert self.data.clicks is not None
        return self.data.clicks

    @property
    def weighed(self) -> bool:
        """True if a column of either log has the weight."""
        weight = self.data.weight
        return weight is not None and not weight.by_time

    @property
    def impression_schema(self) -> pa.Schema:
        """Columns of the impressions that are spilled."""
        own = self.weighed and not self.data.weight_of_click
        fields = [*_IMPRESSION, *([_WEIGHT] if own else [])]
        if self.histories is not None:
            fields += [
                (history_column(number, field.name), field.type)
                for number in range(len(self.histories.sequences))
                for field in self.histories.schema(number)
            ]
        if self.label_events is not None:
            fields += [
                (label_key_column(label), pa.binary())
                for label in self.label_events.tasks
            ]
        return pa.schema(fields)

    @property
    def click_schema(self) -> pa.Schema:
        """Columns of the clicks that are spilled."""
        own = self.data.weight_of_click
        return pa.schema([*_CLICK, *([_WEIGHT] if own else [])])


def history_column(sequence: int, name: str) -> str:
    """Spilled column of what a row tells of its user, see `events.read`."""
    return f"history{sequence}.{name}"


def label_key_column(label: str) -> str:
    """Spilled column of the key of a label's events."""
    return f"label_key.{label}"


def path(work: str, chunk: int) -> str:
    """Where the rows of a chunk are spilled."""
    return os.path.join(work, f"rows-{chunk:05d}")


def partition_chunk(chunk: Chunk, job: PartitionSettings) -> dict[str, Any]:
    """Spills one chunk; returns its counts and times.

    Raises:
        InputError: the file as a whole cannot be read; with its name.
    """
    tally = RowCounts()
    seen: set[str] = set()
    log = _Impressions(job) if chunk.number < job.shown else _Clicks(job)
    shards = Shards(job.folders, chunk.number, job.chunks)
    with (
        naming(chunk.path),
        shards,
        spill.Writer(path(job.work, chunk.number)) as writer,
    ):
        for rows in log_reader.read(chunk, log.source, log.wanted):
            batch, reasons = log.batch(rows)
            rejected = rows.refused(chunk.path, reasons)
            tally.reject(rejected)
            shards.reject(rejected)
            tally.counts["read"] += rows.count + len(rows.rejected)
            seen |= rows.filled(log.wanted.keys() - seen)
            if not batch.num_rows:
                continue
            tally.see("all", batch.column("time").to_numpy())
            keys = batch.column("key")
            writer.add(batch, split.buckets(keys, job.partitions))
    return {
        "chunk": chunk.number,
        **tally.to_json(),
        **log.feature_check.to_json(),
        "absent": sorted(log.wanted.keys() - seen),
    }


class _Impressions:
    """How rows of the impressions are read."""

    source: LogFiles

    def __init__(self, job: PartitionSettings) -> None:
        self._job = job
        self.source = job.data.impressions
        wanted = {name: form.reads for name, form in job.columns.items()}
        assert job.data.time is not None
        time = job.data.time.column
        wanted[time] = reading(wanted.get(time))
        keys = (
            *job.data.split.key,
            *job.data.negatives.key,
            *job.clicks.shown_key,
        )
        if job.weighed and not job.data.weight_of_click:
            assert job.data.weight is not None
            wanted.setdefault(str(job.data.weight.source), "float")
        self.wanted = wanted | dict.fromkeys(keys, "string")
        if job.histories is not None:
            self.wanted = events.wanted(job.histories, self.wanted)
        for task in job.data.event_labels.values():
            self.wanted |= dict.fromkeys(task.shown_key, "string")
        self.feature_check = FeatureCheck(job.ranges)
        self._schema = job.impression_schema

    def batch(self, rows: Rows) -> tuple[pa.RecordBatch, dict[int, str]]:
        """The good rows, and the reasons against the others."""
        data = self._job.data
        assert data.time is not None
        verdicts = Verdicts.none(rows.count)
        nulls = self.source.null_values
        columns = {
            name: typed(
                rows.columns[name],
                form.kind,
                rows.column(name, nulls, form),
                verdicts,
            )
            for name, form in self._job.columns.items()
            if form.kind != "time"
        }
        refuse_unequal(columns, self._job.columns, verdicts)
        base = _base(
            rows,
            self.source,
            self._job.clicks.shown_key,
            data.time,
            verdicts,
        )
        for name, form in self._job.columns.items():
            if form.kind == "time":
                columns[name] = text_of(base["time"].to_numpy())
        side = np.zeros(rows.count, np.int8)
        if data.split.key:
            side = split.key_sides(
                _columns(rows, self.source, data.split.key),
                data.split,
                verdicts,
            )
        elif data.split.by == "hash":
            side = split.hash_sides(base["key"], data.split)
        key = base["key"]
        if data.negatives.key:
            found = _columns(rows, self.source, data.negatives.key)
            key = split.keys_of(found, verdicts)
        sampled = split.kept(key, data.negatives)
        base |= {"side": pa.array(side), "sampled": pa.array(sampled)}
        base |= _weight(rows, self.source, data, verdicts, self._schema)
        if self._job.histories is not None:
            told = events.read(rows, nulls, self._job.histories, verdicts)
            for number, one in enumerate(told):
                base |= {history_column(number, n): one[n] for n in one}
        found_keys = row_keys(rows, data.event_labels, nulls, verdicts)
        base |= {label_key_column(n): keys for n, keys in found_keys.items()}
        good = pa.array(verdicts.good)
        columns = _filtered(columns, good)
        self.feature_check.see(columns)
        features = encode_features(columns)
        base = _filtered(base, good)
        return _batch(base | {"features": features}, self._schema), (
            verdicts.reasons
        )


class _Clicks:
    """How rows of the click log are read."""

    source: LogFiles

    def __init__(self, job: PartitionSettings) -> None:
        self._job = job
        self.source = job.clicks
        wanted: dict[str, str] = dict(job.clicks.carry)
        rule = job.data.label
        if rule is not None and job.data.label_column is not None:
            wanted.setdefault(job.data.label_column, labels.kind(rule))
        time = job.data.click_time.column
        wanted[time] = reading(wanted.get(time))
        self.wanted = wanted | dict.fromkeys(job.clicks.key, "string")
        self.feature_check = FeatureCheck({})
        self._schema = job.click_schema

    def batch(self, rows: Rows) -> tuple[pa.RecordBatch, dict[int, str]]:
        """The rows with key and time, and the reasons against all bad ones.

        One that is bad for another reason takes part in the join, so that
        nobody takes its impression for one without a click.
        """
        data = self._job.data
        needed, verdicts = Verdicts.none(rows.count), Verdicts.none(rows.count)
        base = _base(
            rows,
            self.source,
            self._job.clicks.key,
            data.click_time,
            needed,
            "data.clicks.time" if self._job.clicks.time else "data.time",
        )
        nulls = self.source.null_values
        columns = {
            name: typed(
                rows.columns[name],
                kind,
                rows.column(name, nulls),
                verdicts,
            )
            for name, kind in self._job.clicks.carry.items()
        }
        columns[LABEL] = pa.array(np.ones(rows.count, np.int64))
        if data.label is not None and data.label_column is not None:
            columns[LABEL] = labels.label(
                rows.columns[data.label_column],
                rows.column(data.label_column, nulls),
                data.label if isinstance(data.label, LabelRule) else None,
                verdicts,
            )
        base |= _weight(rows, self.source, data, verdicts, self._schema)
        faults: list[str | None] = [None] * rows.count
        for index, reason in verdicts.reasons.items():
            faults[index] = reason
        base |= {
            "features": encode_features(columns),
            "label": columns[LABEL],
            "fault": pa.array(faults, pa.string()),
        }
        base = _filtered(base, pa.array(needed.good))
        return _batch(base, self._schema), verdicts.reasons | needed.reasons


def _base(
    rows: Rows,
    source: LogFiles,
    key: tuple[str, ...],
    time: TimeColumn,
    verdicts: Verdicts,
    field: str = "data.time",
) -> dict[str, pa.Array]:
    """Columns of a row that both logs have."""
    keys = split.keys_of(
        _columns(rows, source, key), verdicts, "key to join by"
    )
    times = event_time(
        rows.columns[time.column],
        rows.column(time.column, source.null_values),
        verdicts,
        time,
        field,
    )
    where, row = rows.origins()
    return {
        "key": keys,
        "time": pa.array(times),
        "ordinal": pa.array(rows.ordinal),
        "where": where,
        "row": row,
    }


def _weight(
    rows: Rows,
    source: LogFiles,
    data: DataConfig,
    verdicts: Verdicts,
    schema: pa.Schema,
) -> dict[str, pa.Array]:
    """The column of weights, if this log's `schema` has one."""
    config = data.weight
    if config is None or config.source is None or "weight" not in schema.names:
        return {}
    column = rows.column(config.source, source.null_values)
    array = rows.columns[config.source]
    found = weights.weights(array, column, config, verdicts)
    return {"weight": pa.array(found)}


def _columns(
    rows: Rows, source: LogFiles, names: Sequence[str]
) -> list[tuple[pa.Array, Column]]:
    nulls = source.null_values
    return [(rows.columns[n], rows.column(n, nulls)) for n in names]


def _filtered(
    columns: Mapping[str, pa.Array], good: pa.BooleanArray
) -> dict[str, pa.Array]:
    if pc.all(good).as_py():
        return dict(columns)
    return {name: array.filter(good) for name, array in columns.items()}


def _batch(
    columns: Mapping[str, pa.Array], schema: pa.Schema
) -> pa.RecordBatch:
    arrays = [columns[f.name].cast(f.type) for f in schema]
    return pa.record_batch(arrays, schema=schema)
