"""One chunk of raw log to TFRecord shards of labelled tf.Examples."""

from __future__ import annotations

import base64
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from components.click_log_gen import columnar, jsonl, labels, text
from components.click_log_gen.chunks import Chunk
from components.click_log_gen.config import DataConfig, Split
from components.click_log_gen.rows import Mask, Rejected, Rows, Verdicts, typed
from models.config import LABEL

_SKETCH = 1 << 16  # points kept of the event times of a chunk


@dataclass(frozen=True)
class Cut:
    """Where eval begins: from this time on, or from this row on."""

    time: int = 0
    row: int = 0
    first_rows: tuple[int, ...] = ()  # chunk number -> rows before it


@dataclass(frozen=True)
class Job:
    """All that a worker needs besides the chunk."""

    data: DataConfig
    columns: Mapping[str, tuple[str, str | None]]  # kind, list separator
    folders: Mapping[str, str]
    chunks: int
    cut: Cut


def survey(chunk: Chunk, data: DataConfig) -> dict[str, Any]:
    """Row count of a chunk, and a sketch of its times if split by time."""
    if data.split.by == "order":
        return {"chunk": chunk.number, "rows": _count(chunk, data)}
    times: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    assert data.time is not None
    for rows in _read(chunk, data, {data.time: "string"}):
        verdicts = Verdicts.none(rows.count)
        found = labels.event_time(
            rows.columns[data.time],
            data.time,
            data.impressions.null_values,
            verdicts,
        )
        times.append(found[verdicts.good])
    merged = np.sort(np.concatenate(times))
    points = merged
    if len(merged) > _SKETCH:
        points = merged[np.linspace(0, len(merged) - 1, _SKETCH).astype(int)]
    return {
        "chunk": chunk.number,
        "rows": len(merged),
        "times": points.tolist(),
    }


def find_cut(surveys: list[dict[str, Any]], split: Split) -> Cut:
    """The cut that sends the last `split.eval` of the rows to eval."""
    surveys = sorted(surveys, key=lambda part: int(part["chunk"]))
    total = sum(int(part["rows"]) for part in surveys)
    wanted = total - max(1, round(total * split.eval))
    if split.by == "order":
        before = np.cumsum([0] + [part["rows"] for part in surveys])
        return Cut(row=wanted, first_rows=tuple(int(n) for n in before))
    if split.by == "time" and total:
        times = np.concatenate([part["times"] for part in surveys])
        weights = np.concatenate(
            [
                np.full(len(part["times"]), part["rows"] / len(part["times"]))
                for part in surveys
                if part["times"]
            ]
        )
        order = np.argsort(times, kind="stable")
        passed = np.cumsum(weights[order]) - weights[order]
        at = min(int(np.searchsorted(passed, wanted - 1e-6)), len(order) - 1)
        return Cut(time=int(times[order][at]))
    return Cut()


def run(chunk: Chunk, job: Job) -> dict[str, Any]:
    """Converts one chunk; returns its counts. Same chunk, same bytes."""
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    examples: dict[str, Any] = {}
    shard = f"{chunk.number:05d}-of-{job.chunks:05d}"
    with _Shards(job.folders, shard) as shards:
        for rows in _read(chunk, job.data, _raw_columns(job)):
            verdicts = Verdicts.none(rows.count)
            batch, is_eval = _convert(rows, chunk, job, verdicts)
            good = verdicts.good
            rejected = rows.rejected + [
                Rejected(chunk.path, *_place(rows, int(i), verdicts))
                for i in np.flatnonzero(~good)
            ]
            for item in rejected:
                reasons[item.reason] += 1
                if item.reason not in examples:
                    examples[item.reason] = {
                        "file": item.path,
                        "where": item.where,
                        "row": item.row[:120].decode(errors="backslashreplace"),
                    }
                shards.reject(item)
            counts["read"] += rows.count + len(rows.rejected)
            counts["rejected"] += len(rejected)
            label = batch.column(batch.schema.get_field_index(LABEL))
            positive = np.asarray(label.flatten()) == 1
            serialized = _encode(batch.filter(pa.array(good)))
            positive, is_eval = positive[good], is_eval(serialized, good)
            for split, mask in (("train", ~is_eval), ("eval", is_eval)):
                chosen = np.flatnonzero(mask)
                shards.write(split, [serialized[i] for i in chosen])
                counts[split] += len(chosen)
                counts[f"positives_{split}"] += int(positive[mask].sum())
            counts["kept"] += len(serialized)
    return {
        "chunk": chunk.number,
        "counts": dict(counts),
        "reasons": dict(reasons),
        "examples": examples,
    }


def _raw_columns(job: Job) -> dict[str, str]:
    """Columns to read, with how they will be read."""
    columns = {name: kind for name, (kind, _) in job.columns.items()}
    split = job.data.split
    columns.setdefault(job.data.label_column, "label")
    if split.by == "time" and job.data.time is not None:
        columns.setdefault(job.data.time, "string")
    if split.by == "hash" and split.key is not None:
        columns.setdefault(split.key, "string")
    return columns


def _read(
    chunk: Chunk, data: DataConfig, columns: Mapping[str, str]
) -> Iterator[Rows]:
    source = data.impressions
    if source.format in ("csv", "tsv"):
        return text.read(chunk, source, list(columns))
    if source.format == "jsonl":
        return jsonl.read(chunk, columns)
    if source.format == "parquet":
        return columnar.read_parquet(chunk, list(columns))
    return columnar.read_tfrecord(chunk, list(columns))


def _count(chunk: Chunk, data: DataConfig) -> int:
    source = data.impressions
    if source.format in ("csv", "tsv", "jsonl"):
        return text.count(chunk, source)
    if source.format == "parquet":
        return columnar.count_parquet(chunk)
    return sum(
        rows.count + len(rows.rejected)
        for rows in columnar.read_tfrecord(chunk, [])
    )


def _convert(
    rows: Rows, chunk: Chunk, job: Job, verdicts: Verdicts
) -> tuple[pa.RecordBatch, Any]:
    """Typed columns with the label, and a function that tells eval rows."""
    data = job.data
    nulls = data.impressions.null_values
    arrays = {}
    for name, (kind, separator) in job.columns.items():
        arrays[name] = typed(
            rows.columns[name], kind, name, nulls, verdicts, separator
        )
    arrays[LABEL] = labels.label(
        rows.columns[data.label_column], data, verdicts
    )
    batch = pa.RecordBatch.from_arrays(
        [_as_lists(array) for array in arrays.values()], list(arrays)
    )
    split = data.split
    if split.by == "order":
        first = job.cut.first_rows[chunk.number]
        late: Mask = rows.ordinal + first >= job.cut.row
        return batch, lambda serialized, good: late[good]
    if split.by == "time":
        assert data.time is not None
        times = labels.event_time(
            rows.columns[data.time], data.time, nulls, verdicts
        )
        return batch, lambda serialized, good: times[good] >= job.cut.time
    if split.key is None:
        return batch, lambda serialized, good: labels.by_hash(
            serialized, split.eval
        )
    keys = typed(rows.columns[split.key], "string", split.key, nulls, verdicts)
    verdicts.refuse(
        keys.is_null().to_numpy(zero_copy_only=False),
        f"column {split.key}: no value to split by",
    )
    return batch, lambda serialized, good: labels.by_hash(
        keys.filter(pa.array(good)).to_pylist(), split.eval
    )


def _place(
    rows: Rows, index: int, verdicts: Verdicts
) -> tuple[str, str, bytes]:
    where, row = rows.locate(index)
    return where, verdicts.reasons[index], row


def _as_lists(array: pa.Array) -> pa.Array:
    """A column as lists of one value, or none where it is null."""
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(array) + 1, np.int32)
    np.cumsum(valid, out=offsets[1:])
    values = array.drop_null()
    if pa.types.is_string(values.type):
        values = values.cast(pa.binary())
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _encode(batch: pa.RecordBatch) -> list[bytes]:
    from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

    if batch.num_rows == 0:
        return []
    encoded: list[bytes] = RecordBatchToExamplesEncoder().encode(batch)
    return encoded


class _Shards:
    """The files that one chunk fills; each is made when first needed."""

    def __init__(self, folders: Mapping[str, str], shard: str) -> None:
        self._folders = folders
        self._shard = shard
        self._writers: dict[str, Any] = {}
        self._rejected: Any = None

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            writer.close()
        if self._rejected is not None:
            self._rejected.close()

    def write(self, split: str, records: list[bytes]) -> None:
        import tensorflow as tf

        if not records:
            return
        if split not in self._writers:
            path = os.path.join(
                self._folders[split], f"data_tfrecord-{self._shard}"
            )
            self._writers[split] = tf.io.TFRecordWriter(path)
        write = self._writers[split].write
        for record in records:
            write(record)

    def reject(self, item: Rejected) -> None:
        if self._rejected is None:
            path = os.path.join(
                self._folders["rejected"], f"rejected-{self._shard}.jsonl"
            )
            self._rejected = FileSystems.create(path)
        entry = {
            "file": item.path,
            "where": item.where,
            "reason": item.reason,
        }
        try:
            entry["row"] = item.row.decode()
        except UnicodeDecodeError:
            entry["row_base64"] = base64.b64encode(item.row).decode()
        self._rejected.write(json.dumps(entry).encode() + b"\n")
