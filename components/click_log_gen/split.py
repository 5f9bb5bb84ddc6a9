"""Train or eval: where the logs are cut, and which side a key falls on."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.click_log_gen import readers
from components.click_log_gen.chunks import Chunk, naming
from components.click_log_gen.config import DataConfig, Split
from components.click_log_gen.rows import Column, Verdicts
from components.click_log_gen.times import Times, event_time

SKETCH = 1 << 16  # event times kept of a chunk; with more rows, a sample
_BUCKETS = 1 << 24


@dataclass(frozen=True)
class Cut:
    """Where eval begins: from this time on, or from this row on."""

    time: int = 0
    row: int = 0
    first_rows: tuple[int, ...] = ()  # chunk number -> rows before it


def survey(chunk: Chunk, data: DataConfig) -> dict[str, Any]:
    """Row count of a chunk, and its event times if split by time.

    Raises:
        InputError: the file as a whole cannot be read; with its name.
    """
    with naming(chunk.path):
        if data.split.by == "order":
            rows = readers.count(chunk, data.impressions)
            return {"chunk": chunk.number, "rows": rows}
        times = np.sort(_times(chunk, data))
    count = len(times)
    if count > SKETCH:
        times = times[np.linspace(0, count - 1, SKETCH).astype(np.int64)]
    packed = base64.b64encode(times.astype("<i8").tobytes()).decode()
    return {"chunk": chunk.number, "rows": count, "times": packed}


def _times(chunk: Chunk, data: DataConfig) -> Times:
    name, source = data.time, data.impressions
    assert name is not None
    times = [np.zeros(0, np.int64)]
    for rows in readers.read(chunk, source, {name: "time"}):
        verdicts = Verdicts.none(rows.count)
        nulls = None if rows.parsed else source.null_values
        found = event_time(rows.columns[name], Column(name, nulls), verdicts)
        times.append(found[verdicts.good])
    return np.concatenate(times)


def find_cut(surveys: Iterable[Mapping[str, Any]], split: Split) -> Cut:
    """The cut that sends the last `split.eval` of the rows to eval.

    By time it is exact where no chunk has more than SKETCH rows; beyond, each
    chunk is off by one row in SKETCH at most. Rows of one time stay together.
    """
    parts = sorted(surveys, key=lambda part: int(part["chunk"]))
    total = sum(int(part["rows"]) for part in parts)
    train = total - max(1, round(total * split.eval))
    if split.by == "order":
        before = np.cumsum([0, *(part["rows"] for part in parts)])
        return Cut(row=train, first_rows=tuple(before.tolist()))
    if split.by == "time" and total:
        sketches = [
            np.frombuffer(base64.b64decode(part["times"]), "<i8")
            for part in parts
        ]
        weights = [
            np.full(len(sketch), part["rows"] / max(1, len(sketch)))
            for part, sketch in zip(parts, sketches, strict=True)
        ]
        times, weight = np.concatenate(sketches), np.concatenate(weights)
        order = np.argsort(times, kind="stable")
        before = np.cumsum(weight[order]) - weight[order]
        at = min(int(np.searchsorted(before, train - 1e-6)), len(order) - 1)
        return Cut(time=int(times[order][at]))
    return Cut()


def by_hash(keys: pa.Array, share: float) -> npt.NDArray[np.bool_]:
    """Which keys go to eval: a stable hash of their bytes, on any host."""
    import tensorflow as tf

    values = keys.to_numpy(zero_copy_only=False)  # of str or bytes objects
    if not len(values):
        return np.zeros(0, np.bool_)
    buckets = tf.strings.to_hash_bucket_fast(values, _BUCKETS).numpy()
    return np.asarray(buckets < share * _BUCKETS, dtype=np.bool_)
