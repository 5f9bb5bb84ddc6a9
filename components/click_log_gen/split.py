"""Train or eval: where the logs are cut, and which side a row falls on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.click_log_gen import quantile, readers
from components.click_log_gen.chunks import Chunk, naming
from components.click_log_gen.config import DataConfig, Split
from components.click_log_gen.rows import Column, Verdicts
from components.click_log_gen.times import Times, event_time

NAMES = ("train", "eval")
Sides = npt.NDArray[np.int8]  # index into NAMES of each row

_BUCKETS = 1 << 24


@dataclass(frozen=True)
class Cut:
    """Where eval begins: from this time on, or from this row on."""

    at: int = 0

    def sides(self, values: npt.NDArray[np.int64]) -> Sides:
        """Which side rows of these times, or these numbers, fall on."""
        return (values >= self.at).astype(np.int8)


NO_CUT = Cut()


def survey(chunk: Chunk, data: DataConfig, folder: str) -> dict[str, Any]:
    """Row count of a chunk; its event times, in `folder`, if split by time.

    Raises:
        InputError: the file as a whole cannot be read; with its name.
    """
    with naming(chunk.path):
        if data.split.by == "order":
            count = readers.count(chunk, data.impressions)
            return {"chunk": chunk.number, "count": count}
        times = _times(chunk, data)
    path = os.path.join(folder, f"times-{chunk.number:05d}")
    return {"chunk": chunk.number, **quantile.write(path, times)}


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


def first_rows(counts: Iterable[int]) -> tuple[int, ...]:
    """Rows before each chunk, from the rows of each."""
    return tuple(np.cumsum([0, *counts]).tolist())


def find_cut(parts: Sequence[Mapping[str, Any]], split: Split) -> Cut:
    """The cut that sends the last `split.eval` of the rows to eval.

    Exact; rows of one time stay together.

    Args:
        parts: counts of all rows, and unless these are numbered from 0, files
            of their times or numbers, as `quantile.write` returned them.
    """
    total = sum(int(part["count"]) for part in parts)
    train = total - max(1, round(total * split.eval))
    if not total:
        return NO_CUT
    if not any("path" in part for part in parts):
        return Cut(train)
    return Cut(quantile.nth(parts, train))


def key_sides(
    array: pa.Array, column: Column, split: Split, verdicts: Verdicts
) -> Sides:
    """Which side the rows of each key fall on; a row without is refused."""
    keys = column.text(array, verdicts)
    missing = keys.is_null().to_numpy(zero_copy_only=False)
    verdicts.refuse(missing, f"column {column.name}: no value to split by")
    return hash_sides(keys.fill_null(""), split)


def hash_sides(keys: pa.Array, split: Split) -> Sides:
    """Which side each key falls on, by a stable hash."""
    return by_hash(keys, split.eval).astype(np.int8)


def by_hash(keys: pa.Array, share: float) -> npt.NDArray[np.bool_]:
    """Which keys go to eval: a stable hash of their bytes, on any host."""
    return np.asarray(buckets(keys, _BUCKETS) < share * _BUCKETS)


def buckets(keys: pa.Array, count: int) -> npt.NDArray[np.int64]:
    """A number below `count` for each text, from a stable hash of its bytes."""
    import tensorflow as tf

    values = keys.to_numpy(zero_copy_only=False)  # of str or bytes objects
    if not len(values):
        return np.zeros(0, np.int64)
    found: npt.NDArray[np.int64] = tf.strings.to_hash_bucket_fast(
        values, count
    ).numpy()
    return found
