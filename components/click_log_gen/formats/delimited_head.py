"""The head of a csv or tsv file: its columns, and where its rows begin."""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path

from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.files.chunks import Chunk, blocks
from components.click_log_gen.files.lines import Lines
from models.errors import InputError

_HEAD_BYTES = 1 << 16
# Control characters that may stand for a delimiter of several.
_MARKS = [code for code in range(31, 0, -1) if code not in b"\r\n\t"]


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


def _names(line: bytes, source: LogFiles) -> tuple[str, ...]:
    quote = source.quoting
    line, mark = with_mark(line, source)
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


def with_mark(data: bytes, source: LogFiles) -> tuple[bytes, str]:
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


def peek(path: str, log: LogFiles) -> list[str] | None:
    """The columns of a local file by its first bytes, or None."""
    try:
        with Path(path).open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
        *lines, _ = head.decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError):
        return None
    line = next((line.rstrip("\r") for line in lines if line.strip()), "")
    if not line:
        return None
    quote = log.quoting or "\0"
    # Packed files, old Mac line ends, quotes over lines: the ingest knows.
    if not line.replace("\t", "").isprintable() or line.count(quote) % 2:
        return None
    if len(log.separator) > 1 or log.quoting is None:
        return line.split(log.separator)
    cells = csv.reader(
        [line],
        delimiter=log.separator,
        quotechar=quote,
        escapechar=log.escape,
    )
    return next(cells, None)
