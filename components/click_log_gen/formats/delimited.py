"""csv and tsv: blocks of lines to Arrow columns, bad lines told apart."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from components.click_log_gen.columns import value_text
from components.click_log_gen.columns.rows import Rows
from components.click_log_gen.config.sections import LogFiles
from components.click_log_gen.files.chunks import Chunk, blocks
from components.click_log_gen.files.lines import Lines
from components.click_log_gen.formats import quoted_rows
from components.click_log_gen.formats.delimited_cells import Form
from models.errors import InputError

_HEAD_BYTES = 1 << 16
_BOM = b"\xef\xbb\xbf"
# Control characters that may stand for a delimiter of several.
_MARKS = [code for code in range(31, 0, -1) if code not in b"\r\n\t"]


def read(
    chunk: Chunk, source: LogFiles, columns: Mapping[str, str]
) -> Iterator[Rows]:
    """The rows of `chunk`; text, or float64 where the kind is float.

    A line is a row, unless a quoted cell goes on in the next one. Refused is
    a line whose quotes do not pair up or whose number of columns is wrong.

    Raises:
        InputError: the header is damaged or lacks one of `columns`.
    """
    head = read_head(chunk, source)
    if head.names is None:
        return
    for name in columns:
        if name not in head.names:
            shown = ", ".join(head.names)
            raise InputError(f"no column {name!r}. Its columns: {shown:.2000}")
    ordinal = 0
    for lines in body(chunk, source, head):
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
    whole = dataclasses.replace(chunk, start=0, end=-1)
    for block in blocks(whole, source, _HEAD_BYTES):
        lines = Lines(chunk.path, block.offset, block.data)
        if block.long:
            raise InputError(f"the header is {source.too_long}")
        if len(lines):
            size = block.offset + int(lines.spans[1][0])
            names = source.columns or _names(lines.row(0), source)
            return Head(names, size)
    return Head(None)


def body(
    chunk: Chunk, source: LogFiles, head: Head | None = None
) -> Iterator[Lines]:
    """The rows of `chunk`, the header not among them."""
    head = head or read_head(chunk, source)
    if source.quoting is None or head.names is None:
        yield from _body(chunk, source, head)
        return
    form = Form.of(source, len(head.names))
    reach = min(quoted_rows.ROW_BYTES, source.max_line_bytes)
    chunk = quoted_rows.aligned(chunk, form, reach, head.size)
    rest = Lines(chunk.path, 0, b"")
    for lines in _body(chunk, source, head):
        if lines.refused or not rest.data:
            if rest.data:
                yield quoted_rows.joined(rest, form, reach, last=True)
            rest = lines
        else:
            rest = Lines(lines.path, rest.offset, rest.data + lines.data)
        whole = rest
        if not lines.refused and not _is_line_by_line(rest, source, head, form):
            whole = quoted_rows.joined(rest, form, reach, last=False)
        yield whole
        size = len(whole.data)
        rest = Lines(rest.path, rest.offset + size, rest.data[size:])
    if rest.data:
        yield quoted_rows.joined(rest, form, reach, last=True)


def _body(chunk: Chunk, source: LogFiles, head: Head) -> Iterator[Lines]:
    """The lines of `chunk`, the header's not among them."""
    for block in blocks(chunk, source):
        skip = min(max(0, head.size - block.offset), len(block.data))
        refused = source.too_long if block.long else ""
        yield Lines(
            chunk.path,
            block.offset + skip,
            block.data[skip:],
            refused=refused,
        )


def _names(line: bytes, source: LogFiles) -> tuple[str, ...]:
    quote = source.quoting
    line, mark = _with_mark(line, source)
    try:
        (cells,) = csv.reader(
            [line.decode()],
            delimiter=mark,
            quotechar=quote,
            quoting=csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL,
            escapechar=source.escape,
            strict=quote is not None,
        )
    except UnicodeDecodeError as error:
        raise InputError("the header is not UTF-8") from error
    except (csv.Error, ValueError) as error:
        raise InputError(f"the header cannot be read: {error}") from error
    cells = [cell.replace(mark, source.separator) for cell in cells]
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
    if lines.refused:
        return lines.nothing(columns)
    reasons: dict[int, str] = {}
    table = None
    if not _has_stray_returns(lines.data):
        table = _read_table(lines.data, source, names, columns)
    form = Form.of(source, len(names))
    if table is None or not _fits(table, lines, form):
        reasons = _broken_lines(lines, form)
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


def _fits(table: _Table, lines: Lines, form: Form) -> bool:
    """Whether each row of `table` is one of `lines`.

    An open quote, or an escape, takes in the lines after it, so that there
    are fewer rows than lines, unless it is in the last line.
    """
    marks = (form.quote, form.escape)
    if not any(mark and mark in lines.data for mark in marks):
        return True
    if table.count != len(lines) or not len(lines):
        return table.count == len(lines)
    row = lines.row(len(lines) - 1)
    return b"\n" in row or form.fault(row) is None


def _is_line_by_line(
    lines: Lines, source: LogFiles, head: Head, form: Form
) -> bool:
    """Whether each of `lines` is a row of its own."""
    assert form.quote is not None and head.names is not None
    data = lines.data
    if form.quote not in data or not len(lines):
        return True
    if _has_stray_returns(data):
        return False
    try:
        first = dict.fromkeys(head.names[:1], "string")
        table = _read_table(data, source, head.names, first, parsed=False)
    except pa.ArrowInvalid:
        return False
    last = form.count(lines.row(len(lines) - 1))
    return table is not None and table.count == len(lines) and last is not None


def _broken_lines(lines: Lines, form: Form) -> dict[int, str]:
    """Line -> reason, for each that is no row."""
    found = {}
    for line in range(len(lines)):
        row = lines.row(line)
        if b"\n" in row:  # several lines, found to be a row
            continue
        reason = form.fault(row)
        if reason is not None:
            found[line] = reason
    return found


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
    data, mark = _with_mark(data, source)
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
            null_values=[
                word.replace(source.separator, mark)
                for word in ("", *source.null_values)
            ],
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
                delimiter=mark,
                quote_char=source.quoting or False,
                double_quote=source.quoting is not None,
                escape_char=source.escape or False,
            ),
            convert,
        )
    except pa.ArrowInvalid:
        if not parsed:
            raise
        return None
    arrays = {name: table.column(name).combine_chunks() for name in columns}
    if mark != source.separator:
        # Where it stood inside quotes it is no delimiter.
        for name, array in arrays.items():
            if value_text.is_text(array.type):
                arrays[name] = pc.replace_substring(
                    array, mark.encode(), source.separator.encode()
                )
    return _Table(arrays, table.num_rows, parsed)


def _with_mark(data: bytes, source: LogFiles) -> tuple[bytes, str]:
    """`data` with one character for the delimiter, and that character.

    Raises:
        InputError: `data` has all characters that may stand for it.
    """
    if len(source.separator) == 1:
        return data, source.separator
    for code in _MARKS:
        mark = bytes([code])
        if mark not in data:
            return data.replace(source.separator.encode(), mark), mark.decode()
    raise InputError(
        "a block of text has all control characters; none is left to stand"
        f" for `delimiter: {source.separator!r}`"
    )
