"""One chunk of raw log to shards of labelled, split tf.Examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from components.click_log_gen import readers
from components.click_log_gen.chunks import Chunk, naming
from components.click_log_gen.config import DataConfig, LabelRule
from components.click_log_gen.examples import encode
from components.click_log_gen.labels import label
from components.click_log_gen.rows import (
    Column,
    Mask,
    Rejected,
    Rows,
    Verdicts,
    typed,
)
from components.click_log_gen.shards import Shards
from components.click_log_gen.split import Cut, by_hash
from components.click_log_gen.times import event_time
from models.config import LABEL

_SHOWN = 120  # bytes of a rejected row in the counts


@dataclass(frozen=True)
class Job:
    """All that a worker needs besides the chunk."""

    data: DataConfig
    columns: Mapping[str, tuple[str, str | None]]  # kind, list separator
    folders: Mapping[str, str]
    chunks: int
    cut: Cut


def run(chunk: Chunk, job: Job) -> dict[str, Any]:
    """Converts one chunk; returns its counts. Same chunk, same bytes.

    Raises:
        InputError: the file as a whole cannot be read; with its name.
    """
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    first: dict[str, Any] = {}
    seen: set[str] = set()
    wanted = _wanted(job)
    shards = Shards(job.folders, chunk.number, job.chunks)
    with naming(chunk.path), shards:
        for rows in readers.read(chunk, job.data.impressions, wanted):
            batch = _Batch(rows, chunk, job)
            rejected = batch.rejected()
            for item in rejected:
                reasons[item.reason] += 1
                first.setdefault(item.reason, _shown(item))
            shards.reject(rejected)
            counts["read"] += rows.count + len(rows.rejected)
            counts["rejected"] += len(rejected)
            counts["kept"] += len(batch.records)
            for split, chosen in batch.splits().items():
                shards.write(split, batch.records.filter(pa.array(chosen)))
                counts[split] += int(chosen.sum())
                positives = batch.positive & chosen
                counts[f"positives_{split}"] += int(positives.sum())
            seen |= {
                name
                for name in wanted.keys() - seen
                if rows.columns[name].null_count < rows.count
            }
    return {
        "chunk": chunk.number,
        "counts": dict(counts),
        "reasons": dict(reasons),
        "examples": first,
        "absent": sorted(wanted.keys() - seen),
    }


def _wanted(job: Job) -> dict[str, str]:
    """Columns to read -> what they will be read as."""
    data = job.data
    wanted = {name: kind for name, (kind, _) in job.columns.items()}
    rule = data.label
    kind = "label"
    if isinstance(rule, LabelRule):
        kind = "string" if isinstance(rule.equals, str) else "float"
    wanted.setdefault(data.label_column, kind)
    if data.split.by == "time" and data.time is not None:
        wanted.setdefault(data.time, "time")
    if data.split.key is not None:
        # As written, whatever else the column is: 1 and 1.0 are two users.
        wanted[data.split.key] = "string"
    return wanted


class _Batch:
    """Some rows on their way to tf.Examples.

    records: the good rows, serialized. positive: whether their label is 1.
    """

    def __init__(self, rows: Rows, chunk: Chunk, job: Job) -> None:
        self._rows = rows
        self._chunk = chunk
        self._job = job
        self._verdicts = Verdicts.none(rows.count)
        data = job.data
        columns = {
            name: typed(
                rows.columns[name],
                kind,
                self._column(name, sep),
                self._verdicts,
            )
            for name, (kind, sep) in job.columns.items()
        }
        columns[LABEL] = label(
            rows.columns[data.label_column],
            self._column(data.label_column),
            data.label if isinstance(data.label, LabelRule) else None,
            self._verdicts,
        )
        late = self._late()
        good = self._verdicts.good
        if not good.all():
            chosen = pa.array(good)
            columns = {n: array.filter(chosen) for n, array in columns.items()}
        self.records = encode(columns)
        self.positive: Mask = columns[LABEL].to_numpy() == 1
        self._late_good: Mask = (
            by_hash(self.records, data.split.eval)
            if late is None
            else late[good]
        )

    def splits(self) -> dict[str, Mask]:
        """Which of `records` go where."""
        return {"train": ~self._late_good, "eval": self._late_good}

    def rejected(self) -> list[Rejected]:
        """The rows that are not in `records`, in order."""
        found = list(self._rows.rejected)
        for index in np.flatnonzero(~self._verdicts.good):
            where, row = self._rows.locate(int(index))
            reason = self._verdicts.reasons[int(index)]
            found.append(Rejected(self._chunk.path, where, reason, row))
        return sorted(found, key=lambda item: item.number)

    def _column(self, name: str, separator: str | None = None) -> Column:
        nulls = self._job.data.impressions.null_values
        return Column(name, None if self._rows.parsed else nulls, separator)

    def _late(self) -> Mask | None:
        """Which rows go to eval; None: the example's own bytes tell."""
        data, rows = self._job.data, self._rows
        split = data.split
        if split.by == "order":
            before = self._job.cut.first_rows[self._chunk.number]
            return np.asarray(rows.ordinal + before >= self._job.cut.row)
        if split.by == "time":
            assert data.time is not None
            times = event_time(
                rows.columns[data.time],
                self._column(data.time),
                self._verdicts,
            )
            return np.asarray(times >= self._job.cut.time)
        if split.key is None:
            return None
        keys = self._column(split.key).text(
            rows.columns[split.key], self._verdicts
        )
        missing = keys.is_null().to_numpy(zero_copy_only=False)
        self._verdicts.refuse(
            missing, f"column {split.key}: no value to split by"
        )
        return by_hash(keys.fill_null(""), split.eval)


def _shown(item: Rejected) -> dict[str, str]:
    row = item.row[:_SHOWN].decode(errors="backslashreplace")
    return {"file": item.path, "where": item.where, "row": row}
