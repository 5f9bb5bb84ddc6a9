"""csv and tsv: blocks of lines to Arrow columns, bad lines told apart."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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


@dataclass
class _Table:
    """What Arrow made of a block."""

    columns: dict[str, pa.Array]
    count: int = 0
    parsed: bool = False
    invalid: list[pa_csv.InvalidRow] = field(default_factory=list)

    @property
    def lines(self) -> int:
        return self.count + len(self.invalid)


def _parse(
    lines: Lines,
    source: LogFiles,
    names: tuple[str, ...],
    columns: Mapping[str, str],
) -> Rows:
    """One block of whole lines."""
    reasons = _stray_returns(lines)
    table = _read_table(lines.without(reasons), source, names, columns)
    if source.quoting and source.quoting.encode() in lines.data:
        closed = _closed_line(source.separator, source.quoting)
        left = lines.others(reasons)
        # An open quote takes in the lines after it: there are fewer rows
        # than lines, unless it is in the last line.
        if len(left) and not (
            table.lines == len(left)
            and closed.fullmatch(lines.row(int(left[-1])))
        ):
            for line in left:
                if not closed.fullmatch(lines.row(int(line))):
                    reasons[int(line)] = (
                        "a quote that does not end in its line (line breaks"
                        " inside quotes are not supported)"
                    )
            table = _read_table(lines.without(reasons), source, names, columns)
    if table.invalid:
        left = lines.others(reasons)
        for row in table.invalid:
            reasons[int(left[row.number - 1])] = (
                f"{row.actual_columns} columns instead of"
                f" {row.expected_columns}"
            )
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
    )


def _stray_returns(lines: Lines) -> dict[int, str]:
    """Lines with a \\r that Arrow would take for the end of a row."""
    data = lines.data
    if b"\r" not in data or data.count(b"\r") == data.count(b"\r\n"):
        return {}
    return {
        line: "a carriage return inside the line"
        for line in range(len(lines))
        if b"\r" in lines.row(line)
    }


@lru_cache
def _closed_line(separator: str, quote: str) -> re.Pattern[bytes]:
    """Matches a line whose quoted cells all end in it.

    A quote counts only at the start of a cell, as in Python's csv module.
    """
    s, q = re.escape(separator.encode()), re.escape(quote.encode())
    quoted = rb"%b(?:[^%b]++|%b%b)*+%b" % (q, q, q, q, q)
    cell = rb"(?:%b|(?!%b))[^%b]*+" % (quoted, q, s)
    return re.compile(rb"%b(?:%b%b)*+" % (cell, s, cell))


def _read_table(
    data: bytes,
    source: LogFiles,
    names: tuple[str, ...],
    columns: Mapping[str, str],
) -> _Table:
    """`data` by Arrow: parsed values, or binary where one does not parse."""
    if not data.lstrip(b"\r\n"):
        return _Table({name: pa.array([], pa.binary()) for name in columns})
    if data.startswith(_BOM):
        data = b"\n" + data  # or Arrow would drop it
    parsed = pa_csv.ConvertOptions(
        include_columns=list(columns),
        column_types={
            name: pa.float64() if kind == "float" else pa.string()
            for name, kind in columns.items()
        },
        strings_can_be_null=True,
        null_values=["", *source.null_values],
    )
    as_written = pa_csv.ConvertOptions(
        include_columns=list(columns),
        column_types={name: pa.binary() for name in columns},
        check_utf8=False,
        strings_can_be_null=False,
    )
    for options in (parsed, as_written):
        invalid: list[pa_csv.InvalidRow] = []
        try:
            table = _read_csv(data, source, names, options, invalid)
        except pa.ArrowInvalid:
            if options is as_written:
                raise
            continue
        break
    return _Table(
        {name: table.column(name).combine_chunks() for name in columns},
        table.num_rows,
        options is parsed,
        invalid,
    )


def _read_csv(
    data: bytes,
    source: LogFiles,
    names: tuple[str, ...],
    convert: pa_csv.ConvertOptions,
    invalid: list[pa_csv.InvalidRow],
) -> pa.Table:
    def skip(row: pa_csv.InvalidRow) -> str:
        invalid.append(row)
        return "skip"

    return pa_csv.read_csv(
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
            invalid_row_handler=skip,
        ),
        convert,
    )
