"""parquet and TFRecord of tf.Example: typed rows to Arrow columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.click_log_gen.columns import value_text
from components.click_log_gen.columns.rows import Rejected, Rows, numbered
from components.click_log_gen.config.sections import LogFiles
from components.click_log_gen.files.chunks import (
    KEPT_BYTES,
    Chunk,
    open_chunk,
    open_parquet,
)
from components.example_io import tfrecord
from models.errors import InputError

BATCH = 16_384
_BATCH_BYTES = 32 << 20


def read_parquet(chunk: Chunk, columns: Mapping[str, str]) -> Iterator[Rows]:
    """The row groups of `chunk`; only `columns` are read from the file.

    Raises:
        InputError: a column is missing, or the file is damaged.
    """
    with open_parquet(chunk.path) as file:
        names = file.schema_arrow.names
        for name in columns:
            if name not in names:
                raise InputError(
                    f"no column {name!r}. Its columns: {', '.join(names)}"
                )
            if names.count(name) > 1:
                raise InputError(f"column {name!r} is named twice")
        before = _rows_in(file, range(chunk.start))
        groups = range(chunk.start, chunk.end)
        ordinal = 0
        batches = file.iter_batches(
            BATCH,
            row_groups=list(groups),
            columns=list(columns),
        )
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"damaged parquet file: {error}") from error
            if batch is None:
                break
            yield _parquet_rows(batch, ordinal, before + ordinal)
            ordinal += batch.num_rows
        if ordinal != _rows_in(file, groups):
            raise InputError(
                f"damaged parquet file: {ordinal} rows where its footer says"
                f" {_rows_in(file, groups)}"
            )


def parquet_names(path: str) -> list[str]:
    """The columns of a file."""
    with open_parquet(path) as file:
        names: list[str] = file.schema_arrow.names
        return names


def _rows_in(file: pq.ParquetFile, groups: range) -> int:
    return sum(file.metadata.row_group(group).num_rows for group in groups)


def _parquet_rows(batch: pa.RecordBatch, ordinal: int, number: int) -> Rows:
    pairs = zip(batch.schema.names, batch.columns, strict=True)
    arrays = {name: value_text.plain(array) for name, array in pairs}

    def locate(index: int) -> tuple[str, bytes]:
        row = {name: _shown(array[index]) for name, array in arrays.items()}
        return f"row {number + index}", repr(row).encode()

    numbers = np.arange(ordinal, ordinal + batch.num_rows, dtype=np.int64)

    def locate_all() -> tuple[pa.Array, pa.Array]:
        return numbered("row", number - ordinal + numbers), _texts(arrays)

    return Rows(arrays, numbers, locate, locate_all=locate_all)


def _texts(arrays: Mapping[str, pa.Array]) -> pa.BinaryArray:
    """All columns of each row, about as Python would show them."""
    pieces: list[Any] = []
    for name, array in arrays.items():
        pieces += [b"{" if not pieces else b", ", f"'{name}': ".encode()]
        if pa.types.is_string(array.type):
            data = array.cast(pa.binary())
            text = pc.binary_join_element_wise(b"'", data, b"'", b"")
        elif _has_text(array.type):
            text = array.cast(pa.string()).cast(pa.binary())
        else:
            text = pa.array([repr(_shown(value)).encode() for value in array])
        pieces.append(pc.fill_null(text, b"None"))
    return pc.binary_join_element_wise(*pieces, b"}", b"")


def _has_text(kind: pa.DataType) -> bool:
    """Whether Arrow can write every value of the type."""
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )


def _shown(scalar: pa.Scalar) -> Any:
    """The value in Python, or what comes nearest: some are out of its range."""
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        if pa.types.is_string(scalar.type):
            return scalar.as_buffer().to_pybytes()
        return f"<{scalar.type}>"


def count_parquet(chunk: Chunk) -> int:
    """Rows of the row groups of `chunk`, from the file's footer."""
    with open_parquet(chunk.path) as file:
        return _rows_in(file, range(chunk.start, chunk.end))


def read_tfrecord(
    chunk: Chunk, source: LogFiles, columns: Mapping[str, str]
) -> Iterator[Rows]:
    """tf.Examples; a feature that a record lacks is null.

    Raises:
        InputError: the file is damaged.
    """
    ordinal = 0
    for batch in _record_batches(chunk, source):
        yield _tfrecord_rows(chunk.path, batch, source, columns, ordinal)
        ordinal += len(batch)


def count_tfrecord(chunk: Chunk, source: LogFiles) -> int:
    """Records of `chunk`."""
    return sum(len(batch) for batch in _record_batches(chunk, source))


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
    return Rows(arrays, numbers, locate, rejected, locate_all=locate_all)


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
