"""csv rows that go on over several lines, inside quotes.

A line with an open quote may begin such a row. It does if the quote is closed
at the end of a cell, with the right number of cells, within ROW_BYTES; if not,
that line alone is no row, and the next one is looked at. So the ROW_BYTES after
the start of a row tell where it ends. Any worker can find the starts of rows
from the ROW_BYTES of lines before a place.
"""

from __future__ import annotations

import dataclasses
import re
from typing import IO

import numpy as np

from components.click_log_gen.files.chunks import Chunk, open_raw, skip_line
from components.click_log_gen.files.lines import Lines
from components.click_log_gen.formats.delimited_cells import Form

ROW_BYTES = 1 << 18
_STRAY = re.compile(rb"\r(?!\n)")


class _Rows:
    """Finds where the rows of `lines` end; `reach` is how long they may be."""

    def __init__(self, lines: Lines, form: Form, reach: int) -> None:
        self._data = lines.data
        self._form = form
        self._reach = reach
        starts, ends = lines.spans
        self._starts, self._ends = starts.tolist(), ends.tolist()

    def open(self, line: int) -> bool:
        """True if a quote is open at the end of `line`."""
        row = self._data[self._starts[line] : self._ends[line]]
        quote = self._form.quote
        return (
            quote is not None
            and quote in row
            and (self._form.count(row) is None)
        )

    def last_line(self, line: int) -> int | None:
        """The last line of the row that begins in `line`, which is open.

        `line` itself if there is no such row; None if more data must tell.
        """
        data, form = self._data, self._form
        begin = position = self._starts[line]
        at = line
        for number in range(1, form.columns + 1):
            if data[position : position + 1] == form.quote:
                found = self._close(position + 1, at)
                if found is None:
                    enough = len(data) - begin > self._reach
                    return line if enough else None
                position, at = found[0] + 1, found[1]
                if self._ends[at] - begin > self._reach:
                    return line
            else:
                match = form.bare.match(data, position, self._ends[at])
                assert match is not None
                position = match.end()
            if position == self._ends[at]:
                whole = number == form.columns
                stray = _STRAY.search(data, begin, position)
                return at if whole and not stray else line
            if not data.startswith(form.separator, position):
                break
            position += len(form.separator)
        return line

    def _close(self, position: int, line: int) -> tuple[int, int] | None:
        """The quote that closes one opened before `position`, and its line."""
        for at in range(line, len(self._ends)):
            match = self._form.inside.match(
                self._data, position, self._ends[at]
            )
            assert match is not None
            position = match.end()
            if position < self._ends[at]:
                return position, at
        return None


def joined(lines: Lines, form: Form, reach: int, last: bool) -> Lines:
    """The rows of `lines`, each of one line or more.

    Unless these are the `last` ones, lines at the end that may belong to a
    row that is not there yet are left out: the result's data is shorter.
    """
    rows = _Rows(lines, form, reach)
    firsts, lasts, line, size = [], [], 0, len(lines.data)
    starts, ends = lines.spans
    while line < len(lines):
        end: int | None = line
        if rows.open(line):
            end = rows.last_line(line)
            if end is None and not last:
                size = int(starts[line])
                break
        firsts.append(line)
        lasts.append(line if end is None else end)
        line = lasts[-1] + 1
    spans = (
        starts[np.array(firsts, np.int64)],
        ends[np.array(lasts, np.int64)],
    )
    return Lines(lines.path, lines.offset, lines.data[:size], spans)


def aligned(chunk: Chunk, form: Form, reach: int, first: int) -> Chunk:
    """`chunk` moved, where it must be, to begin and end between two rows.

    Neighbours move alike. `first` is where the file's first row begins.
    """
    if chunk.whole or form.quote is None:
        return chunk
    size = chunk.stamp[0]
    start, end = chunk.start, chunk.end
    with open_raw(chunk.path) as stream:
        find = _Starts(stream, form, reach, first)
        if start:
            start = find.after(start, end)
        if start < end < size:
            end = find.after(end, size)
    return dataclasses.replace(chunk, start=start, end=max(start, end))


class _Starts:
    """Finds where rows begin in the middle of a file."""

    def __init__(
        self, stream: IO[bytes], form: Form, reach: int, first: int
    ) -> None:
        self._stream = stream
        self._form = form
        self._reach = reach
        self._first = first

    def after(self, at: int, stop: int) -> int:
        """The first place from `at` on where surely a row begins, or `stop`."""
        if at <= self._first:
            return at
        self._stream.seek(at - 1)
        at += skip_line(self._stream, stop - at) - 1
        while at < stop:
            found, sure = self._look(at)
            if sure:
                return min(found, stop)
            at = found
        return stop

    def _look(self, at: int) -> tuple[int, bool]:
        """A line from `at` on, and whether it is surely a row.

        `at` is where a line begins; so does what is found, further on.
        """
        low = max(self._first, at - self._reach)
        self._stream.seek(low)
        data = self._stream.read(at - low)
        assert self._form.quote is not None
        if self._form.quote not in data:
            return at, True
        more = self._stream.read(4 * self._reach)
        at_end = len(more) < 4 * self._reach
        # A line that begins before is longer than a row can be.
        cut = data.find(b"\n") + 1 if low > self._first else 0
        lines = Lines("", low + cut, data[cut:] + more)
        rows = _Rows(lines, self._form, self._reach)
        begins = (lines.spans[0] + lines.offset).tolist()
        end = lines.offset + len(lines.data)
        taken = -1  # the last line that a row may take in
        for line, begin in enumerate(begins):
            if begin >= at and line > taken:
                return begin, True
            if end - begin <= self._reach + 1 and not at_end:
                return max(begin, at), False
            if rows.open(line):
                taken = max(taken, rows.last_line(line) or line)
        return end, at_end
