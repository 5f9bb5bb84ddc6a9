"""Train, eval or test: where the logs are cut, and what a row falls to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.arrow_masks import Mask, nulled
from components.click_log_gen.columns.event_time import Times, event_time
from components.click_log_gen.columns.rows import Column, Verdicts
from components.click_log_gen.config.sections import DataConfig, Split
from components.click_log_gen.files.chunks import Chunk, naming
from components.click_log_gen.formats import log_reader
from components.click_log_gen.splitting import quantile
from models.config.training import Negatives

Sides = npt.NDArray[np.int8]  # index into Split.names, or OUT, of each row

OUT = -1  # in the gap between two splits
_BUCKETS = 1 << 24


@dataclass(frozen=True)
class Cut:
    """Where eval and test begin: from these times on, or from these rows on.

    gap: how long before them rows are left out.
    """

    at: tuple[int, ...] = ()
    gap: int = 0

    def sides(self, values: npt.NDArray[np.int64]) -> Sides:
        """Split of the rows of these times, or these numbers."""
        sides = np.searchsorted(self.at, values, "right")
        if self.gap:
            later = np.searchsorted(self.at, values + self.gap, "right")
            sides = np.where(later == sides, sides, OUT)
        return sides.astype(np.int8)


NO_CUT = Cut()


def count(chunk: Chunk, data: DataConfig) -> dict[str, Any]:
    """Row count of a chunk.

    Raises:
        InputError: the file as a whole cannot be read; with its name.
    """
    with naming(chunk.path):
        count = log_reader.count(chunk, data.impressions)
    return {"chunk": chunk.number, "count": count}


def survey(chunk: Chunk, data: DataConfig, folder: str) -> dict[str, Any]:
    """Event times of a chunk, as `described`.

    Raises:
        InputError: the file as a whole cannot be read; with its name.
    """
    with naming(chunk.path):
        times = event_times(chunk, data)
    return {"chunk": chunk.number, **described(chunk, data, times, folder)}


def described(
    chunk: Chunk, data: DataConfig, times: Times, folder: str
) -> dict[str, Any]:
    """The latest of the times of a chunk, `high`, if there is one.

    Split by time, with a file of them in `folder`, as `find_cut` takes it.
    """
    if data.split.by == "time":
        path = os.path.join(folder, f"times-{chunk.number:05d}")
        return quantile.write(path, times)
    return {"high": int(times.max())} if len(times) else {}


def event_times(chunk: Chunk, data: DataConfig) -> Times:
    """Event times of the rows of a chunk that have one."""
    source = data.impressions
    assert data.time is not None
    name = data.time.column
    times = [np.zeros(0, np.int64)]
    for rows in log_reader.read(chunk, source, {name: "time"}):
        verdicts = Verdicts.none(rows.count)
        column = rows.column(name, source.null_values)
        found = event_time(rows.columns[name], column, verdicts, data.time)
        times.append(found[verdicts.good])
    return np.concatenate(times)


def first_rows(counts: Iterable[int]) -> tuple[int, ...]:
    """Rows before each chunk, from the rows of each."""
    return tuple(np.cumsum([0, *counts]).tolist())


def find_cut(parts: Sequence[Mapping[str, Any]], split: Split) -> Cut:
    """The cut that sends the last rows to test, and those before to eval.

    Exact; rows of one time stay together.

    Args:
        parts: counts of all rows, and unless these are numbered from 0, files
            of their times or numbers, as `quantile.write` returned them.
    """
    total = rest = sum(int(part["count"]) for part in parts)
    if not total:
        return NO_CUT
    ranks: list[int] = []
    for share in (split.test, split.eval):
        if share:
            rest = max(0, rest - max(1, round(share * total)))
            ranks.insert(0, rest)
    if any("path" in part for part in parts):
        ranks = [quantile.nth(parts, rank) for rank in ranks]
    return Cut(tuple(ranks), split.gap_micros)


def keys_of(
    columns: Sequence[tuple[pa.Array, Column]],
    verdicts: Verdicts,
    purpose: str | None = None,
) -> pa.BinaryArray:
    """One key for each row, of the columns' texts.

    A row without all of them is refused if they have a `purpose`; its key is
    empty.
    """
    texts = []
    for array, column in columns:
        text = column.text(array, verdicts).cast(pa.binary())
        if purpose is not None:
            missing = text.is_null().to_numpy(zero_copy_only=False)
            verdicts.refuse(missing, f"column {column.name}: no {purpose}")
        texts.append(text.fill_null(b""))
    if len(texts) == 1:
        return texts[0]
    pieces = []
    for text in texts:
        # With lengths, so that ab, c is not a, bc.
        length = pc.binary_length(text).cast(pa.string()).cast(pa.binary())
        pieces += [length, text]
    return pc.binary_join_element_wise(*pieces, b":")


def told_apart(records: pa.BinaryArray) -> pa.BinaryArray:
    """The records, with a number where one was there before.

    Else, where a few values make up all examples, a hash would choose all
    negatives of some ads and none of others.
    """
    encoded = records.dictionary_encode()
    if len(encoded.dictionary) == len(records):
        return records
    which = encoded.indices.to_numpy()
    order = np.argsort(which, kind="stable")
    first = np.searchsorted(which[order], np.arange(len(encoded.dictionary)))
    before = np.empty(len(which), np.int64)
    before[order] = np.arange(len(which)) - first[which[order]]
    number = nulled(pa.array(before).cast(pa.string()), before == 0)
    return pc.binary_join_element_wise(
        records,
        number.cast(pa.binary()),
        pa.scalar(b"", pa.binary()),
        null_handling="skip",
    )


def key_sides(
    columns: Sequence[tuple[pa.Array, Column]], split: Split, verdicts: Verdicts
) -> Sides:
    """Split of the rows of each key; a row without a key is refused."""
    return hash_sides(keys_of(columns, verdicts, "value to split by"), split)


def hash_sides(keys: pa.Array, split: Split) -> Sides:
    """Split of each key, by a stable hash of its bytes, on any host."""
    found = buckets(keys, _BUCKETS)
    sides = (found < (split.eval + split.test) * _BUCKETS).astype(np.int8)
    sides[(found >= split.eval * _BUCKETS) & (sides > 0)] = 2
    return sides


def kept(keys: pa.Array, negatives: Negatives) -> Mask:
    """Which negatives of these keys are trained on; a hash of its own."""
    import tensorflow as tf

    if negatives.keep == 1.0 or not len(keys):
        return np.ones(len(keys), np.bool_)
    found = tf.strings.to_hash_bucket_strong(
        keys.to_numpy(zero_copy_only=False),
        _BUCKETS,
        [negatives.seed, _BUCKETS],
    )
    return np.asarray(found.numpy() < negatives.keep * _BUCKETS)


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
