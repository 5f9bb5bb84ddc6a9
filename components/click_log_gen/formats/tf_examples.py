"""TFRecords of tf.Examples: features to Arrow columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from components.click_log_gen.columns import value_text
from components.click_log_gen.columns.rows import Rejected, Rows, numbered
from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.files import file_kinds
from components.click_log_gen.files.chunks import KEPT_BYTES, Chunk, open_chunk
from components.click_log_gen.formats.log_format import LogFormat
from components.example_io import tfrecord

BATCH = 16_384
_BATCH_BYTES = 32 << 20


class TFExamples(LogFormat):
    """One worker reads a file; a feature that a record lacks is null."""

    packable = True
    accepted = f"TFRecords, {file_kinds.PACKED}"

    def read(
        self, chunk: Chunk, source: LogFiles, columns: Mapping[str, str]
    ) -> Iterator[Rows]:
        """The tf.Examples of a file.

        Raises:
            InputError: the file is damaged.
        """
        ordinal = 0
        for batch in _record_batches(chunk, source):
            yield _tfrecord_rows(chunk.path, batch, source, columns, ordinal)
            ordinal += len(batch)

    def count(self, chunk: Chunk, source: LogFiles) -> int:
        """Records of a file."""
        return sum(len(batch) for batch in _record_batches(chunk, source))

    def is_head(self, head: bytes) -> bool:
        """True if a file begins with a record, of any length."""
        return tfrecord.is_header(head)


TFRECORD = TFExamples()


def _record_batches(
    chunk: Chunk, source: LogFiles
) -> Iterator[list[tuple[bytes, int]]]:
    """Records, each with its length, which is more where it was cut."""
    batch: list[tuple[bytes, int]] = []
    size = 0
    with open_chunk(chunk, source) as stream:
        for record, length in tfrecord.read(
            stream, source.max_line_bytes, KEPT_BYTES
        ):
            batch.append((record, length))
            size += len(record)
            if len(batch) == BATCH or size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _tfrecord_rows(
    path: str,
    batch: list[tuple[bytes, int]],
    source: LogFiles,
    columns: Mapping[str, str],
    ordinal: int,
) -> Rows:
    whole = [i for i, (record, size) in enumerate(batch) if len(record) == size]
    records = [batch[i][0] for i in whole]
    numbers = np.array(whole, np.int64) + ordinal
    bad = {
        ordinal + i: source.too_long
        for i, (record, size) in enumerate(batch)
        if len(record) < size
    }
    kept = np.arange(len(records), dtype=np.int64)
    try:
        arrays = _decode(records, columns)
    except RuntimeError:
        arrays, kept = _decode_by_kind(records, columns)
        for i in np.setdiff1d(np.arange(len(records)), kept):
            bad[int(numbers[i])] = "not a tf.Example"
    numbers = numbers[kept]

    def locate(index: int) -> tuple[str, bytes]:
        return f"row {numbers[index]}", records[kept[index]]

    def locate_all() -> tuple[pa.Array, pa.Array]:
        rows = [records[at] for at in kept]
        return numbered("row", numbers), pa.array(rows, pa.binary())

    rejected = [
        Rejected(path, f"row {number}", bad[number], batch[number - ordinal][0])
        for number in sorted(bad)
    ]
    return Rows(
        arrays,
        numbers,
        locate,
        rejected,
        locate_all=locate_all,
        loose=arrays.keys(),
    )


def _decode(
    records: list[bytes], columns: Mapping[str, str]
) -> dict[str, pa.Array]:
    """Lists of values; raises RuntimeError on a bad or odd record."""
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    batch = ExamplesToRecordBatchDecoder(None).DecodeBatch(records)
    return {
        name: batch.column(name)
        if name in batch.schema.names
        else pa.nulls(len(records))
        for name in columns
    }


def _decode_by_kind(
    records: list[bytes], columns: Mapping[str, str]
) -> tuple[dict[str, pa.Array], Any]:
    """As `_decode`, where a feature has several kinds or records are bad.

    Returns all values as lists of text, and the indices of the good records.
    """
    order: list[int] = []
    groups: dict[tuple[str | None, ...], dict[int, bytes]] = {}
    for index, record in enumerate(records):
        reduced = _reduce(record, columns)
        if reduced is not None:
            kinds, data = reduced
            groups.setdefault(kinds, {})[index] = data
    text = pa.list_(pa.binary())
    pieces = {name: [pa.array([], text)] for name in columns}
    for group in groups.values():
        order += group
        for name, array in _decode(list(group.values()), columns).items():
            pieces[name].append(_as_texts(array).cast(text))
    back = pa.array(np.argsort(order), pa.int64())
    arrays = {
        name: pa.concat_arrays(p).take(back) for name, p in pieces.items()
    }
    return arrays, np.array(sorted(order), np.int64)


def _as_texts(array: pa.Array) -> pa.Array:
    """Lists of numbers as lists of their texts; anything else as it is."""
    if not pa.types.is_large_list(array.type):
        return array
    found = value_text.texts(array.values)
    if found is None:
        return array
    return pa.LargeListArray.from_arrays(
        array.offsets, found, mask=array.is_null()
    )


def _reduce(
    record: bytes, columns: Mapping[str, str]
) -> tuple[tuple[str | None, ...], bytes] | None:
    """Kinds of `columns` in a tf.Example, and the record with them alone.

    None if the record is no tf.Example.
    """
    import tensorflow as tf

    example = tf.train.Example()
    try:
        given = tf.train.Example.FromString(record).features.feature
        for name in columns.keys() & given.keys():
            example.features.feature[name].CopyFrom(given[name])
        data = example.SerializeToString()
        _decode([data], columns)
    except Exception:  # protobuf's DecodeError differs between backends
        return None
    feature = example.features.feature
    kinds = [
        feature[name].WhichOneof("kind") if name in feature else None
        for name in columns
    ]
    return tuple(kinds), data
