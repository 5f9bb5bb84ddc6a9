"""csv and tsv: blocks of lines to Arrow columns, bad lines told apart."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from components.click_log_gen.chunks import Chunk, blocks
from components.click_log_gen.config import LogFiles
from components.click_log_gen.lines import Lines
from components.click_log_gen.rows import Rows
from models.errors import InputError

_HEAD_BYTES = 1 << 16
_BOM = b"\xef\xbb\xbf"


def read(
    chunk: Chunk, source: LogFiles, columns: Mapping[str, str]
) -> Iterator[Rows]:
    """The rows of `chunk`; text, or float64 where the kind is float.

    A line is a row: a quoted line break is refused, like every line whose
    quotes do not pair up or whose number of columns is wrong.

    Raises:
        InputError: the header is damaged or lacks one of `columns`.
    """
    head = read_head(chunk, source)
    if head.names is None:
        return
    for name in columns:
        if name not in head.names:
            raise InputError(
                f"no column {name!r}. Its columns: {', '.join(head.names)}"
            )
    ordinal = 0
    for lines in body(chunk, head):
        rows = _parse(lines, source, head.names, columns)
        rows.ordinal += ordinal
        ordinal += rows.count + len(rows.rejected)
        yield rows


@dataclass(frozen=True)
class Head:
    """names: of the columns; None where the file has no line at all.

    size: bytes before the first row.
    """

    names: tuple[str, ...] | None
    size: int = 0


def read_head(chunk: Chunk, source: LogFiles) -> Head:
    """The column names of the chunk's file, and where its rows begin."""
    if not source.header:
        return Head(source.columns)
    whole = Chunk(0, chunk.path, 0, -1, chunk.gzip)
    for offset, data in blocks(whole, _HEAD_BYTES):
        lines = Lines(chunk.path, offset, data)
        if len(lines):
            size = offset + int(lines.spans[1][0])
            names = source.columns or _names(lines.row(0), source)
            return Head(names, size)
    return Head(None)


def body(chunk: Chunk, head: Head) -> Iterator[Lines]:
    """The lines of `chunk`, the header's not among them."""
    for offset, data in blocks(chunk):
        skip = min(max(0, head.size - offset), len(data))
        yield Lines(chunk.path, offset + skip, data[skip:])


def _names(line: bytes, source: LogFiles) -> tuple[str, ...]:
    quote = source.quoting
    try:
        (cells,) = csv.reader(
            [line.decode()],
            delimiter=source.separator,
            quotechar=quote,
            quoting=csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL,
            strict=quote is not None,
        )
    except UnicodeDecodeError as error:
        raise InputError("the header is not UTF-8") from error
    except (csv.Error, ValueError) as error:
        raise InputError(f"the header cannot be read: {error}") from error
    # An unnamed first column is a saved pandas index.
    names = tuple(name or f"column_{i}" for i, name in enumerate(cells))
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"column {name!r} is named twice")
    return names


@dataclass(frozen=True)
class _Table:
    """What Arrow made of a block; parsed: as numbers and text, not bytes."""

    columns: dict[str, pa.Array]
    count: int
    parsed: bool


def _parse(
    lines: Lines,
    source: LogFiles,
    names: tuple[str, ...],
    columns: Mapping[str, str],
) -> Rows:
    """One block of whole lines."""
    reasons: dict[int, str] = {}
    table = None
    if not _has_stray_returns(lines.data):
        table = _read_table(lines.data, source, names, columns)
    if table is None or not _is_line_by_line(table, lines, source):
        reasons = _broken_lines(lines, source, len(names))
        data = lines.without(reasons)
        table = _read_table(data, source, names, columns)
        if table is None:
            table = _read_table(data, source, names, columns, parsed=False)
    assert table is not None
    numbers = (
        lines.others(reasons)
        if reasons
        else np.arange(table.count, dtype=np.int64)
    )
    return Rows(
        table.columns,
        numbers.copy(),
        lambda index: lines.locate(int(numbers[index])),
        lines.rejected(reasons) if reasons else [],
        table.parsed,
        lambda: lines.locate_all(numbers),
    )


def _has_stray_returns(data: bytes) -> bool:
    """Whether there is a \\r that Arrow, but not we, take for a line's end."""
    return b"\r" in data and data.count(b"\r") != data.count(b"\r\n")


def _is_line_by_line(table: _Table, lines: Lines, source: LogFiles) -> bool:
    """Whether each row of `table` is one line.

    An open quote takes in the lines after it, so that there are fewer rows
    than lines, unless it is in the last line.
    """
    if source.quoting is None or source.quoting.encode() not in lines.data:
        return True
    count = len(lines)
    return table.count == count and (
        not count or _cells(lines.row(count - 1), source) is not None
    )


def _broken_lines(
    lines: Lines, source: LogFiles, columns: int
) -> dict[int, str]:
    """Line -> reason, for each that is not a row of so many columns."""
    reasons = {}
    for line in range(len(lines)):
        row = lines.row(line)
        cells = _cells(row, source)
        if b"\r" in row:
            reasons[line] = "a carriage return inside the line"
        elif cells is None:
            reasons[line] = (
                "a quote that does not end in its line (line breaks inside"
                " quotes are not supported)"
            )
        elif cells != columns:
            reasons[line] = f"{cells} columns instead of {columns}"
    return reasons


def _cells(row: bytes, source: LogFiles) -> int | None:
    """How many cells a line has; None where a quote is left open.

    A quote counts only at the start of a cell, as in Python's csv module.
    """
    separator = source.separator.encode()
    if source.quoting is not None and source.quoting.encode() in row:
        row = _quoted_cells(source.separator, source.quoting).sub(b"", row)
        quote = source.quoting.encode()
        if row.startswith(quote) or separator + quote in row:
            return None
    return row.count(separator) + 1


@lru_cache
def _quoted_cells(separator: str, quote: str) -> re.Pattern[bytes]:
    """Matches the quoted part of each cell that begins with a quote."""
    s, q = re.escape(separator.encode()), re.escape(quote.encode())
    return re.compile(
        rb"(?:^|(?<=%b))%b(?:[^%b]++|%b%b)*+%b" % (s, q, q, q, q, q)
    )


def _read_table(
    data: bytes,
    source: LogFiles,
    names: tuple[str, ...],
    columns: Mapping[str, str],
    parsed: bool = True,
) -> _Table | None:
    """`data` by Arrow; None where a line or a value does not parse."""
    if not data.lstrip(b"\r\n"):
        empty = pa.array([], pa.binary())
        return _Table(dict.fromkeys(columns, empty), 0, False)
    if data.startswith(_BOM):
        data = b"\n" + data  # or Arrow would drop it
    convert = pa_csv.ConvertOptions(
        include_columns=list(columns),
        column_types={name: pa.binary() for name in columns},
        check_utf8=False,
    )
    if parsed:
        convert = pa_csv.ConvertOptions(
            include_columns=list(columns),
            column_types={
                name: pa.float64() if kind == "float" else pa.string()
                for name, kind in columns.items()
            },
            strings_can_be_null=True,
            null_values=["", *source.null_values],
        )
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(data),
            pa_csv.ReadOptions(
                use_threads=False,
                block_size=len(data) + 1,
                column_names=list(names),
            ),
            pa_csv.ParseOptions(
                delimiter=source.separator,
                quote_char=source.quoting or False,
                double_quote=source.quoting is not None,
            ),
            convert,
        )
    except pa.ArrowInvalid:
        if not parsed:
            raise
        return None
    arrays = {name: table.column(name).combine_chunks() for name in columns}
    return _Table(arrays, table.num_rows, parsed)
