"""csv and tsv: blocks of lines to Arrow columns, bad lines told apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from components.click_log_gen.columns import value_text
from components.click_log_gen.columns.rows import Rows
from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.files.chunks import Chunk, blocks
from components.click_log_gen.files.lines import Lines
from components.click_log_gen.formats import delimited_head, quoted_rows
from components.click_log_gen.formats.delimited_cells import Form
from components.click_log_gen.formats.delimited_head import (
    Head,
    read_head,
    with_mark,
)
from components.click_log_gen.formats.text import TextFormat
from models.errors import InputError

_BOM = b"\xef\xbb\xbf"


class Delimited(TextFormat):
    """Text, or float64 where the kind is float.

    A line is a row, unless a quoted cell goes on in the next one. Refused is
    a line whose quotes do not pair up or whose number of columns is wrong.
    """

    names_columns = True

    def __init__(self, delimiter: str, quote: str | None) -> None:
        self.settings = {
            "columns": None,
            "header": False,
            "delimiter": delimiter,
            "quote": quote,
            "escape": None,
        }

    def lines(self, chunk: Chunk, source: LogFiles) -> Iterator[Lines]:
        """The rows of `chunk`, the header not among them."""
        return body(chunk, source)

    def parse(
        self, lines: Lines, source: LogFiles, columns: Mapping[str, str]
    ) -> Rows:
        """The rows of some lines of a file whose columns are told."""
        assert source.columns is not None
        return _parse(lines, source, source.columns, columns)

    def read(
        self, chunk: Chunk, source: LogFiles, columns: Mapping[str, str]
    ) -> Iterator[Rows]:
        """The rows of `chunk`.

        Raises:
            InputError: the header is damaged or lacks one of `columns`.
        """
        head = read_head(chunk, source)
        if head.names is None:
            return
        for name in columns:
            if name not in head.names:
                shown = ", ".join(head.names)
                raise InputError(
                    f"no column {name!r}. Its columns: {shown:.2000}"
                )
        ordinal = 0
        for lines in body(chunk, source, head):
            rows = _parse(lines, source, head.names, columns)
            rows.ordinal += ordinal
            ordinal += rows.count + len(rows.rejected)
            yield rows

    def names(self, chunk: Chunk, source: LogFiles) -> Sequence[str]:
        """The columns of the chunk's file."""
        return read_head(chunk, source).names or ()

    def peek(self, path: str, source: LogFiles) -> list[str] | None:
        """The columns that the header of a local file names, or None."""
        if source.header and source.columns is None:
            return delimited_head.peek(path, source)
        return None


CSV = Delimited(",", '"')
TSV = Delimited("\t", None)


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


@dataclass(frozen=True)
class _Table:
    """Table of a block by Arrow; parsed: as numbers and text, not bytes."""

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
    """True if there is a CR that only Arrow takes for the end of a line."""
    return b"\r" in data and data.count(b"\r") != data.count(b"\r\n")


def _fits(table: _Table, lines: Lines, form: Form) -> bool:
    """True if each row of `table` is one of `lines`.

    An open quote, or an escape, takes in the lines after it. There are then
    fewer rows than lines, unless it is in the last line.
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
    """True if each of `lines` is a row of its own."""
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
    data, mark = with_mark(data, source)
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
