"""Files of tf.Examples, read in blocks of records."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

import pyarrow as pa
import tensorflow as tf
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from components.example_io.decode import decode
from components.example_io.native import OtherLayoutError
from components.example_io.tfrecord import Records, blocks
from models.errors import InputError


def record_blocks(file: str, rows: int, size: int) -> Iterator[Records]:
    """The records of a file: see `tfrecord.blocks`.

    Args:
        file: TFRecords, gzipped where the name ends in .gz; a path or a URI
            that TensorFlow reads.
        rows: of a block, at most.
        size: bytes that are read at a time.

    Raises:
        InputError: the file is damaged.
    """
    with tf.io.gfile.GFile(file, "rb") as raw:
        if not file.endswith(".gz"):
            yield from blocks(raw, rows, size)
            return
        try:
            with gzip.open(raw) as stream:
                yield from blocks(stream, rows, size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"{file} cannot be unpacked: {error}") from error


def columns_of(records: Records) -> pa.RecordBatch:
    """Features of some rows, as tfx_bsl's decoder gives them, by name."""
    try:
        columns = decode(records)
    except OtherLayoutError:
        return ExamplesToRecordBatchDecoder().DecodeBatch(records.to_list())
    return pa.RecordBatch.from_pydict(dict(sorted(columns.items())))
