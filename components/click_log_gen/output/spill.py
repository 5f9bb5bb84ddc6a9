"""Rows on their way to another worker: one file a writer, cut by partition.

A file is a row of Arrow IPC streams, each the rows of one partition, then an
index of them, then the index's length. A reader takes its partition alone.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from models.errors import InputError

SPILL_BYTES = 32 << 20  # rows that a writer holds
_TAIL = struct.Struct("<q")
_TOO_LARGE = (
    "partition {} of the join is too large for one piece of memory ({}). Raise"
    " `data.clicks.partitions`; if that does not help, one key has too many"
    " rows"
)
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


class Writer:
    """Writes batches of one schema, each row to its partition."""

    def __init__(self, path: str) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._where: list[npt.NDArray[np.int64]] = []
        self._index: list[tuple[int, int, int, int]] = []
        self._size = 0
        stream = FileSystems.create(
            path, compression_type=CompressionTypes.UNCOMPRESSED
        )
        self._stream = cast(IO[bytes], stream)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            if kind is None:
                self._flush()
                index = np.array(self._index, "<i8").tobytes()
                self._stream.write(index + _TAIL.pack(len(index)))
        finally:
            self._stream.close()

    def add(
        self, batch: pa.RecordBatch, partition: npt.NDArray[np.int64]
    ) -> None:
        """Adds rows and the partition of each."""
        self._batches.append(batch)
        self._where.append(partition)
        if sum(held.nbytes for held in self._batches) >= SPILL_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._batches:
            return
        table = pa.Table.from_batches(self._batches)
        where = np.concatenate(self._where)
        self._batches, self._where = [], []
        order = np.argsort(where, kind="stable")
        table = table.take(pa.array(order)).combine_chunks()
        numbers, starts = np.unique(where[order], return_index=True)
        edges = pairwise([*starts.tolist(), len(where)])
        for number, (start, end) in zip(numbers.tolist(), edges, strict=True):
            data = pa.BufferOutputStream()
            with pa.ipc.new_stream(data, table.schema, options=_OPTIONS) as out:
                out.write_table(table.slice(start, end - start))
            packed = data.getvalue()
            self._stream.write(packed)
            self._index.append((number, self._size, len(packed), end - start))
            self._size += len(packed)


class SpilledRows:
    """The rows of one partition in all files; columns are decoded when asked.

    chunks: the number of each row's file (int64 [rows]).
    """

    def __init__(
        self,
        paths: Sequence[str],
        partition: int,
        schema: pa.Schema,
        too_large: str = _TOO_LARGE,
    ) -> None:
        self._schema = schema
        self._too_large = too_large
        self._partition = partition
        self._parts: list[bytes] = []
        chunks = [np.zeros(0, np.int64)]
        for number, path in enumerate(paths):
            for data, count in _segments(path, partition):
                self._parts.append(data)
                chunks.append(np.full(count, number))
        self.chunks = np.concatenate(chunks)

    def __len__(self) -> int:
        return len(self.chunks)

    def column(self, name: str) -> pa.Array:
        """One column of all rows.

        Raises:
            InputError: more of it than an Arrow array takes.
        """
        at = self._schema.get_field_index(name)
        options = pa.ipc.IpcReadOptions(included_fields=[at])
        found = [pa.array([], self._schema.field(at).type)]
        for data in self._parts:
            with pa.ipc.open_stream(data, options=options) as stream:
                found += [batch.column(0) for batch in stream]
        try:
            return pa.concat_arrays(found)
        except pa.ArrowInvalid as error:
            raise InputError(
                self._too_large.format(self._partition, error)
            ) from error


def _segments(path: str, partition: int) -> list[tuple[bytes, int]]:
    """Bytes and row counts of a partition's streams in one file."""
    with FileSystems.open(
        path, compression_type=CompressionTypes.UNCOMPRESSED
    ) as stream:
        stream.seek(-_TAIL.size, 2)
        end = stream.tell()
        (length,) = _TAIL.unpack(stream.read(_TAIL.size))
        stream.seek(end - length)
        index = np.frombuffer(stream.read(length), "<i8").reshape(-1, 4)
        found = []
        for _, start, size, count in index[index[:, 0] == partition].tolist():
            stream.seek(start)
            found.append((stream.read(size), count))
    return found
