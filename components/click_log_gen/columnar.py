"""parquet and TFRecord of tf.Example: typed rows to Arrow columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.click_log_gen.chunks import Chunk, open_raw
from components.click_log_gen.rows import Rejected, Rows
from models.errors import InputError

BATCH = 16_384


def read_parquet(chunk: Chunk, columns: Collection[str]) -> Iterator[Rows]:
    """The row groups of `chunk`; only `columns` are read from the file."""
    with open_raw(chunk.path) as stream:
        file = pq.ParquetFile(stream)
        names = file.schema_arrow.names
        for name in columns:
            if name not in names:
                raise InputError(
                    f"{chunk.path}: no column {name!r}."
                    f" Its columns: {', '.join(names)}"
                )
        ordinal = 0
        first = sum(
            file.metadata.row_group(g).num_rows for g in range(chunk.start)
        )
        try:
            for batch in file.iter_batches(
                BATCH,
                row_groups=list(range(chunk.start, chunk.end)),
                columns=list(columns),
            ):
                arrays = {
                    name: batch.column(batch.schema.get_field_index(name))
                    for name in columns
                }
                yield _rows(arrays, batch.num_rows, ordinal, first)
                ordinal += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{chunk.path}: damaged parquet file: {error}"
            ) from error


def count_parquet(chunk: Chunk) -> int:
    """Rows of the row groups of `chunk`, from the file's footer."""
    with open_raw(chunk.path) as stream:
        metadata = pq.ParquetFile(stream).metadata
        return sum(
            metadata.row_group(group).num_rows
            for group in range(chunk.start, chunk.end)
        )


def read_tfrecord(chunk: Chunk, columns: Collection[str]) -> Iterator[Rows]:
    """tf.Examples; a feature with one value a row becomes a plain column."""
    import tensorflow as tf

    records = tf.data.TFRecordDataset(
        chunk.path, compression_type="GZIP" if chunk.gzip else ""
    ).batch(BATCH)
    ordinal = 0
    try:
        for batch in records.as_numpy_iterator():
            yield _decode(chunk.path, list(batch), columns, ordinal)
            ordinal += len(batch)
    except (tf.errors.DataLossError, tf.errors.OutOfRangeError) as error:
        raise InputError(
            f"{chunk.path}: damaged TFRecord file after {ordinal} records:"
            f" {error.message}"
        ) from error


def _decode(
    path: str, records: list[bytes], columns: Collection[str], ordinal: int
) -> Rows:
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    decoder = ExamplesToRecordBatchDecoder(None)
    rejected: list[Rejected] = []
    kept = np.arange(len(records), dtype=np.int64)
    try:
        batch = decoder.DecodeBatch(records)
    except Exception:  # its own type is not public
        bad = [i for i, r in enumerate(records) if not _is_example(r)]
        rejected = [
            Rejected(path, f"row {ordinal + i}", "not a tf.Example", records[i])
            for i in bad
        ]
        kept = np.delete(kept, bad)
        batch = decoder.DecodeBatch([records[i] for i in kept])
    arrays = {}
    for name in columns:
        position = batch.schema.get_field_index(name)
        if position < 0:
            arrays[name] = pa.nulls(len(kept))
        else:
            arrays[name] = _flat(batch.column(position))

    def locate(index: int) -> tuple[str, bytes]:
        at = int(kept[index])
        return f"row {ordinal + at}", records[at]

    return Rows(arrays, kept + ordinal, locate, rejected)


def _flat(array: pa.Array) -> pa.Array:
    """A list column as a plain one where no row has several values."""
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        return array
    lengths = pc.fill_null(pc.list_value_length(array), 0)
    if len(array) and pc.max(lengths).as_py() > 1:
        return array
    present: npt.NDArray[np.bool_] = lengths.to_numpy(False) > 0
    values = array.flatten()
    indices = np.cumsum(present) - 1
    return values.take(pa.array(indices, mask=~present))


def _is_example(record: bytes) -> bool:
    import tensorflow as tf

    try:
        tf.train.Example.FromString(record)
    except Exception:  # protobuf's DecodeError differs between backends
        return False
    return True


def _rows(
    arrays: dict[str, pa.Array], count: int, ordinal: int, first: int
) -> Rows:
    def locate(index: int) -> tuple[str, bytes]:
        values = {name: array[index].as_py() for name, array in arrays.items()}
        return f"row {first + ordinal + index}", repr(values).encode()

    return Rows(
        arrays, np.arange(ordinal, ordinal + count, dtype=np.int64), locate
    )
