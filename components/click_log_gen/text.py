"""csv and tsv: blocks of lines to Arrow columns, bad lines told apart."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv

from components.click_log_gen.chunks import Chunk, blocks, open_raw
from components.click_log_gen.config import LogFiles
from components.click_log_gen.rows import Rejected, Rows
from models.errors import InputError

_BOM = b"\xef\xbb\xbf"
_NEWLINE = ord("\n")


def read(
    chunk: Chunk, source: LogFiles, columns: Collection[str]
) -> Iterator[Rows]:
    """The rows of `chunk`; every column comes as binary.

    A line is a row: a quoted line break is refused, like every line whose
    quotes do not pair up or whose number of columns is wrong.
    """
    names = header(chunk.path, source)
    missing = [name for name in columns if name not in names]
    if missing:
        raise InputError(
            f"{chunk.path}: no column {missing[0]!r}."
            f" Its columns: {', '.join(names)}"
        )
    ordinal = 0
    for offset, data in blocks(chunk):
        if offset == 0:
            skip = len(_BOM) if data.startswith(_BOM) else 0
            if source.header:
                skip = data.find(b"\n", skip) + 1 or len(data)
            offset, data = skip, data[skip:]
        rows = _parse(chunk.path, offset, data, source, names, columns)
        rows.ordinal += ordinal
        ordinal += len(rows.ordinal) + len(rows.rejected)
        yield rows


def header(path: str, source: LogFiles) -> list[str]:
    """Column names of one file."""
    if source.columns is not None:
        return list(source.columns)
    first = Chunk(0, path, 0, -1, False)
    with open_raw(path) as stream:
        first = Chunk(0, path, 0, -1, stream.read(2) == b"\x1f\x8b")
    _, data = next(iter(blocks(first)), (0, b""))
    line = data.removeprefix(_BOM).split(b"\n", 1)[0].rstrip(b"\r")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the header is not UTF-8") from error
    table = pa_csv.read_csv(
        pa.BufferReader(line + b"\n"),
        pa_csv.ReadOptions(autogenerate_column_names=True),
        _parse_options(source, None),
        pa_csv.ConvertOptions(
            column_types={
                f"f{i}": pa.string()
                for i in range(text.count(source.separator) + 1)
            }
        ),
    )
    names = [str(column[0]) for column in table.columns]
    # An unnamed first column is a saved pandas index.
    names = [name or f"column_{i}" for i, name in enumerate(names)]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path}: column {name!r} is named twice")
    return names


def count(chunk: Chunk, source: LogFiles) -> int:
    """Rows of `chunk`, bad ones included, without parsing them."""
    total = 0
    for offset, data in blocks(chunk):
        total += len(lines(data)[0])
        if offset == 0 and source.header and total:
            total -= 1
    return total


def lines(
    data: bytes,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Start and end of each line that is not empty (end: before \\r\\n)."""
    view = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(view == _NEWLINE).astype(np.int64)
    if len(data) and view[-1] != _NEWLINE:
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    starts = starts[: len(ends)]
    returns = (ends > starts) & (view[np.maximum(ends - 1, 0)] == ord("\r"))
    ends = ends - returns
    filled = ends > starts
    return starts[filled], ends[filled]


def _parse_options(
    source: LogFiles, handler: object | None
) -> pa_csv.ParseOptions:
    return pa_csv.ParseOptions(
        delimiter=source.separator,
        quote_char=source.quoting or False,
        double_quote=source.quoting is not None,
        invalid_row_handler=handler,
    )


def _parse(
    path: str,
    offset: int,
    data: bytes,
    source: LogFiles,
    names: list[str],
    columns: Collection[str],
) -> Rows:
    """One block of whole lines."""
    known: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None
    rejected: list[Rejected] = []
    dropped: list[int] = []  # line numbers in this block

    def spans() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        nonlocal known
        known = lines(data) if known is None else known
        return known

    def reject(line: int, reason: str) -> None:
        starts, ends = spans()
        where = f"byte {offset + int(starts[line])}"
        row = data[starts[line] : ends[line]]
        rejected.append(Rejected(path, where, reason, row))
        dropped.append(line)

    parsed = data
    if source.quoting and source.quoting.encode() in data:
        parsed = _drop_unpaired(data, source.quoting, spans(), reject)

    invalid: list[pa_csv.InvalidRow] = []

    def handler(row: pa_csv.InvalidRow) -> str:
        invalid.append(row)
        return "skip"

    table = None
    if parsed.strip(b"\r\n"):
        table = pa_csv.read_csv(
            pa.BufferReader(parsed),
            pa_csv.ReadOptions(
                use_threads=False,
                block_size=len(parsed) + 1,
                column_names=names,
            ),
            _parse_options(source, handler),
            pa_csv.ConvertOptions(
                include_columns=list(columns),
                column_types={name: pa.binary() for name in columns},
                check_utf8=False,
                strings_can_be_null=False,
            ),
        )
    if invalid:
        kept = [i for i in range(len(spans()[0])) if i not in set(dropped)]
        for row in invalid:
            reject(
                kept[row.number - 1],
                f"{row.actual_columns} columns instead of"
                f" {row.expected_columns}",
            )
    count = 0 if table is None else table.num_rows
    ordinal = np.arange(count + len(dropped), dtype=np.int64)
    if dropped:
        ordinal = np.delete(ordinal, dropped)
    arrays = {
        name: pa.array([], pa.binary())
        if table is None
        else table.column(name).combine_chunks()
        for name in columns
    }
    local = ordinal.copy()

    def locate(index: int) -> tuple[str, bytes]:
        starts, ends = spans()
        line = local[index]
        start = int(starts[line])
        return f"byte {offset + start}", data[start : int(ends[line])]

    return Rows(arrays, ordinal, locate, rejected)


def _drop_unpaired(
    data: bytes,
    quote: str,
    spans: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    reject: Callable[[int, str], None],
) -> bytes:
    """`data` without the lines that hold an odd number of quotes."""
    starts, ends = spans
    view = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(view == ord(quote))
    per_line = np.searchsorted(quotes, ends) - np.searchsorted(quotes, starts)
    odd = np.flatnonzero(per_line % 2)
    if not len(odd):
        return data
    for line in odd:
        reject(int(line), "unpaired quote, or a line break inside quotes")
    pieces = []
    position = 0
    for line in odd:
        pieces.append(data[position : starts[line]])
        position = data.find(b"\n", int(ends[line])) + 1 or len(data)
    pieces.append(data[position:])
    return b"".join(pieces)
