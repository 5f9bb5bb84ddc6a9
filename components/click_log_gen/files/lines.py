"""The lines of a block of text: where each one is, and some left out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.click_log_gen.columns.rows import Rejected, Rows, numbered

Offsets = npt.NDArray[np.int64]


class Lines:
    """The lines of `data` that are not empty, numbered from 0.

    `offset` is where `data` begins in the (uncompressed) file. Lines end in
    LF or CRLF, which are no part of a row; the last needs no end.
    `spans`: start and end of each, where they are rows of several lines.
    `refused`: why none of them can be used.
    """

    def __init__(
        self,
        path: str,
        offset: int,
        data: bytes,
        spans: tuple[Offsets, Offsets] | None = None,
        refused: str = "",
    ) -> None:
        self.path = path
        self.offset = offset
        self.data = data
        self.refused = refused
        self._spans = spans

    @cached_property
    def spans(self) -> tuple[Offsets, Offsets]:
        """Start and end of each line in `data`."""
        if self._spans is not None:
            return self._spans
        view = np.frombuffer(self.data, np.uint8)
        ends = np.flatnonzero(view == ord("\n")).astype(np.int64)
        if len(view) and view[-1] != ord("\n"):
            ends = np.append(ends, len(view))
        starts = np.zeros_like(ends)
        starts[1:] = ends[:-1] + 1
        returned = (ends > starts) & (view[np.maximum(ends - 1, 0)] == 13)
        ends = ends - returned
        filled = ends > starts
        return starts[filled], ends[filled]

    def __len__(self) -> int:
        return len(self.spans[0])

    def row(self, line: int) -> bytes:
        """The bytes of a line, without its end."""
        starts, ends = self.spans
        return self.data[starts[line] : ends[line]]

    def locate(self, line: int) -> tuple[str, bytes]:
        """Where in the file a line is, and its bytes."""
        where = f"byte {self.offset + int(self.spans[0][line])}"
        return where, self.row(line)

    def locate_all(self, lines: Offsets) -> tuple[pa.Array, pa.Array]:
        """As `locate` for each of `lines`, which rise: two Arrow columns."""
        starts, ends = (edge[lines] for edge in self.spans)
        edges = np.zeros(len(self.data) + 1, np.int8)
        edges[starts] = 1
        edges[ends] = -1
        inside = np.cumsum(edges[:-1], dtype=np.int8).view(np.bool_)
        kept = np.frombuffer(self.data, np.uint8)[inside]
        sizes = np.zeros(len(starts) + 1, np.int32)
        np.cumsum(ends - starts, out=sizes[1:])
        buffers = [None, pa.py_buffer(sizes), pa.py_buffer(kept)]
        rows = pa.Array.from_buffers(pa.binary(), len(starts), buffers)
        return numbered("byte", self.offset + starts), rows

    def rejected(self, reasons: Mapping[int, str]) -> list[Rejected]:
        """The lines of `reasons` (line -> reason), in order."""
        found = []
        for line in sorted(reasons):
            where, row = self.locate(line)
            found.append(Rejected(self.path, where, reasons[line], row))
        return found

    def rows(
        self,
        columns: Mapping[str, pa.Array],
        reasons: Mapping[int, str] | None = None,
        loose: Collection[str] = (),
    ) -> Rows:
        """Rows of the lines, in order, but those that are rejected.

        Args:
            columns: name -> one value for each row.
            reasons: line -> why it is no row.
            loose: see `Rows`.
        """
        numbers = self.others(reasons or ())
        return Rows(
            columns,
            numbers.copy(),
            lambda index: self.locate(int(numbers[index])),
            self.rejected(reasons or {}),
            locate_all=lambda: self.locate_all(numbers),
            loose=loose,
        )

    def nothing(self, columns: Iterable[str]) -> Rows:
        """No rows: all lines are `refused`."""
        reasons = dict.fromkeys(range(len(self)), self.refused)
        return Rows(
            dict.fromkeys(columns, pa.nulls(0)),
            np.zeros(0, np.int64),
            self.locate,
            self.rejected(reasons),
        )

    def without(self, lines: Collection[int]) -> bytes:
        """`data` without some lines; their ends stay, as empty lines."""
        starts, ends = self.spans
        pieces = []
        position = 0
        for line in sorted(lines):
            pieces.append(self.data[position : starts[line]])
            position = int(ends[line])
        pieces.append(self.data[position:])
        return b"".join(pieces)

    def others(self, lines: Collection[int]) -> Offsets:
        """The numbers of all lines but some."""
        numbers = np.arange(len(self), dtype=np.int64)
        return np.delete(numbers, sorted(lines))
