"""First pass of a label's events: both logs' rows, spilled by their key."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from components.arrow_masks import Mask
from components.click_log_gen.columns.event_time import (
    Times,
    event_time,
    reading,
)
from components.click_log_gen.columns.rows import Rows, Verdicts
from components.click_log_gen.config.event_logs import EventFiles
from components.click_log_gen.config.labels import LabelTask
from components.click_log_gen.config.sections import DataConfig
from components.click_log_gen.files.chunks import Chunk, naming
from components.click_log_gen.formats import log_reader
from components.click_log_gen.output import spill
from components.click_log_gen.output.row_counts import RowCounts
from components.click_log_gen.output.shards import Shards
from components.click_log_gen.splitting import split
from models.config.event_time import TimeColumn

ROWS = pa.schema(
    [
        ("row", pa.int64()),
        ("key", pa.binary()),
        ("time", pa.int64()),
        ("positive", pa.bool_()),
    ]
)
EVENTS = pa.schema([("key", pa.binary()), ("time", pa.int64())])


@dataclass(frozen=True)
class LabelSettings:
    """All that a worker needs besides its piece of work.

    rejected: folder of rejected events.
    work: folder for what is not kept.
    pieces: of the rows.
    chunks: label -> those of its log.
    partitions: of the keys.
    ends: label -> when its log ends, in microseconds since 1970.
    """

    data: DataConfig
    rejected: str
    work: str
    pieces: int
    chunks: Mapping[str, int]
    partitions: int
    ends: Mapping[str, int] = field(default_factory=dict)

    @property
    def tasks(self) -> dict[str, LabelTask]:
        """The labels that are from events, by name."""
        return self.data.event_labels

    def log(self, label: str) -> EventFiles:
        """The section of a label's log."""
        return self.data.events[str(self.tasks[label].from_)]

    def time(self, label: str) -> TimeColumn:
        """The column of event time in a label's log."""
        time = self.log(label).time or self.data.time
        assert time is not None
        return time

    def rows(self, label: str, piece: int) -> str:
        """Where a piece's rows are spilled."""
        return os.path.join(self.work, f"labelled-{label}-{piece:05d}")

    def events(self, label: str, chunk: int) -> str:
        """Where a chunk's events are spilled."""
        return os.path.join(self.work, f"events-{label}-{chunk:05d}")

    def built(self, label: str, partition: int) -> str:
        """Where the labels of a partition of keys are spilled."""
        return os.path.join(self.work, f"labels-{label}-{partition:05d}")


@dataclass(frozen=True)
class EventChunk:
    """A chunk of a label's log."""

    number: int
    label: str
    chunk: Chunk


def spill_events(piece: EventChunk, job: LabelSettings) -> dict[str, Any]:
    """Spills the events of one chunk; returns its counts and times.

    Raises:
        InputError: the file as a whole cannot be read; with its name.
    """
    label, chunk = piece.label, piece.chunk
    log, time, task = job.log(label), job.time(label), job.tasks[label]
    wanted = {time.column: reading(None)} | dict.fromkeys(task.key, "string")
    tally, seen = RowCounts(), set[str]()
    shards = Shards(
        {"rejected": job.rejected},
        chunk.number,
        job.chunks[label],
        f"{label}-",
    )
    with (
        naming(chunk.path),
        shards,
        spill.Writer(job.events(label, chunk.number)) as writer,
    ):
        for rows in log_reader.read(chunk, log, wanted):
            verdicts = Verdicts.none(rows.count)
            keys = _keys(rows, task.key, log.null_values, verdicts)
            field_ = f"data.events.{task.from_}.time"
            times = event_time(
                rows.columns[time.column],
                rows.column(time.column, log.null_values),
                verdicts,
                time,
                field_ if log.time else "data.time",
            )
            bad = rows.refused(chunk.path, verdicts.reasons)
            tally.reject(bad)
            shards.reject(bad)
            tally.counts["read"] += rows.count + len(rows.rejected)
            seen |= rows.filled(wanted.keys() - seen)
            good = verdicts.good
            batch = pa.record_batch(
                [keys.filter(pa.array(good)), pa.array(times[good])], EVENTS
            )
            if batch.num_rows:
                tally.see("all", times[good])
                where = split.buckets(batch.column("key"), job.partitions)
                writer.add(batch, where)
    return {
        "chunk": piece.number,
        "label": label,
        **tally.to_json(),
        "absent": sorted(wanted.keys() - seen),
    }


def row_keys(
    rows: Rows,
    tasks: Mapping[str, LabelTask],
    null_values: tuple[str, ...],
    verdicts: Verdicts,
) -> dict[str, pa.BinaryArray]:
    """Label -> the key of each impression; one without is refused."""
    return {
        name: _keys(rows, task.shown_key, null_values, verdicts)
        for name, task in tasks.items()
    }


def _keys(
    rows: Rows,
    names: Sequence[str],
    null_values: tuple[str, ...],
    verdicts: Verdicts,
) -> pa.BinaryArray:
    columns = [(rows.columns[n], rows.column(n, null_values)) for n in names]
    return split.keys_of(columns, verdicts, "key of a label's events")


class Writer:
    """Spills the rows of one piece by their keys, for each label."""

    def __init__(self, job: LabelSettings, piece: int) -> None:
        self._job = job
        self._piece = piece
        self._stack = ExitStack()
        self._rows = 0

    def __enter__(self) -> Writer:
        self._writers = {
            label: self._stack.enter_context(
                spill.Writer(self._job.rows(label, self._piece))
            )
            for label in self._job.tasks
        }
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    def add(
        self,
        keys: Mapping[str, pa.BinaryArray],
        times: Times,
        positive: Mask,
        clicked_at: Times | None = None,
    ) -> None:
        """Adds the next rows of the piece.

        Args:
            keys: label -> key of each row.
            times: when they were shown.
            positive: whether they have the first label.
            clicked_at: when, if a click log says so: from then the window
                counts of a label that is of the first.
        """
        numbers = self._rows + np.arange(len(times))
        self._rows += len(times)
        if not len(times):
            return
        for label, writer in self._writers.items():
            at = times
            if self._job.tasks[label].of and clicked_at is not None:
                at = clicked_at
            batch = pa.record_batch(
                [
                    pa.array(numbers),
                    keys[label],
                    pa.array(at),
                    pa.array(positive),
                ],
                ROWS,
            )
            where = split.buckets(keys[label], self._job.partitions)
            writer.add(batch, where)
