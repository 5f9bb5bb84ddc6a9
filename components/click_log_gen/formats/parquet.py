"""Parquet: row groups to Arrow columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.click_log_gen.columns import value_text
from components.click_log_gen.columns.rows import Rows, numbered
from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.files import chunks
from components.click_log_gen.files.chunks import Chunk, open_raw
from components.click_log_gen.formats.log_format import LogFormat
from models.errors import InputError

BATCH = 16_384


class Parquet(LogFormat):
    """A chunk is some row groups; only columns that are wanted are read."""

    magic = b"PAR1"
    names_columns = True
    columnar = True
    accepted = "a parquet file, whose columns are packed inside it"

    def read(
        self, chunk: Chunk, source: LogFiles, columns: Mapping[str, str]
    ) -> Iterator[Rows]:
        """The row groups of `chunk`.

        Raises:
            InputError: a column is missing, or the file is damaged.
        """
        return _read(chunk, columns)

    def count(self, chunk: Chunk, source: LogFiles) -> int:
        """Rows of the row groups of `chunk`, from the file's footer."""
        with open_parquet(chunk.path) as file:
            return _rows_in(file, range(chunk.start, chunk.end))

    def split(self, path: str, size: int) -> Iterator[tuple[int, int]]:
        """Row groups of about CHUNK_BYTES together."""
        return _row_groups(path)

    def names(self, chunk: Chunk, source: LogFiles) -> Sequence[str]:
        """The columns of the chunk's file."""
        with open_parquet(chunk.path) as file:
            return [str(name) for name in file.schema_arrow.names]

    def types(self, path: str, names: Iterable[str]) -> dict[str, pa.DataType]:
        """The types of the columns that the file has."""
        with open_parquet(path) as file:
            schema = file.schema_arrow
            return {n: schema.field(n).type for n in names if n in schema.names}

    def peek(self, path: str, source: LogFiles) -> list[str] | None:
        """The columns of a local file, or None."""
        try:
            return list(pq.ParquetFile(path).schema_arrow.names)
        except (pa.ArrowException, OSError, UnicodeDecodeError):
            return None


PARQUET = Parquet()


def _read(chunk: Chunk, columns: Mapping[str, str]) -> Iterator[Rows]:
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
    """True if Arrow can write every value of the type."""
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


@contextmanager
def open_parquet(path: str) -> Iterator[pq.ParquetFile]:
    """The parquet file at `path`.

    Raises:
        InputError: it is none, or its footer is damaged.
    """
    with open_raw(path) as stream:
        try:
            file = pq.ParquetFile(
                stream,
                page_checksum_verification=True,
                # In nanoseconds, INT96 would leave out all but 1678 to 2261.
                coerce_int96_timestamp_unit="us",
            )
            _ = file.schema_arrow.names  # which may not even be text
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"not a parquet file, or damaged: {error}"
            ) from error
        yield file


def _row_groups(path: str) -> Iterator[tuple[int, int]]:
    with open_parquet(path) as file:
        metadata = file.metadata
        start = size = 0
        for group in range(metadata.num_row_groups):
            size += metadata.row_group(group).total_byte_size
            if size >= chunks.CHUNK_BYTES:
                yield start, group + 1
                start, size = group + 1, 0
        if start < metadata.num_row_groups:
            yield start, metadata.num_row_groups
