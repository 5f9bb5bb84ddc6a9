"""How one line of csv or tsv splits into cells."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from components.click_log_gen.config.log_files import LogFiles


@dataclass(frozen=True)
class Form:
    """Delimiter, quoting and number of cells of a line.

    A quote counts only at the start of a cell, as in Python's csv module; an
    escape counts everywhere.
    """

    separator: bytes
    quote: bytes | None
    escape: bytes | None
    columns: int

    @classmethod
    def of(cls, source: LogFiles, columns: int) -> Form:
        """The form of a csv or tsv log."""
        return cls(
            source.separator.encode(),
            source.quoting.encode() if source.quoting else None,
            source.escape.encode() if source.escape else None,
            columns,
        )

    def count(self, row: bytes) -> int | None:
        """How many cells a line has; None where a quote is left open."""
        if self.escape is not None and self.escape in row:
            row = self._escaped.sub(b"xx", row)
        if self.quote is not None and self.quote in row:
            row = self._quoted.sub(b"", row)
            if row.startswith(self.quote) or self.separator + self.quote in row:
                return None
        return row.count(self.separator) + 1

    def fault(self, row: bytes) -> str | None:
        """Why a line is no row; None if it is one."""
        count = self.count(row)
        if b"\r" in row:
            return "a carriage return inside the line"
        if count is None:
            return "a quote that is never closed, or not at the end of a cell"
        if count != self.columns:
            return f"{count} columns instead of {self.columns}"
        if self.escape is not None and self._loose_end.search(row):
            return "an escape at the end of the line"
        return None

    @cached_property
    def _quoted(self) -> re.Pattern[bytes]:
        """Matches the quoted part of each cell that begins with a quote."""
        s, q = re.escape(self.separator), re.escape(self.quote or b"")
        return re.compile(
            rb"(?:^|(?<=%b))%b(?:[^%b]++|%b%b)*+%b" % (s, q, q, q, q, q)
        )

    @cached_property
    def _escaped(self) -> re.Pattern[bytes]:
        return re.compile(re.escape(self.escape or b"") + b".", re.DOTALL)

    @cached_property
    def _loose_end(self) -> re.Pattern[bytes]:
        e = re.escape(self.escape or b"")
        return re.compile(rb"(?<!%b)(?:%b%b)*%b\Z" % (e, e, e, e))

    @cached_property
    def inside(self) -> re.Pattern[bytes]:
        """Matches what a quoted cell holds, up to its closing quote."""
        q = re.escape(self.quote or b"")
        if self.escape is None:
            return re.compile(rb"(?:[^%b]++|%b%b)*+" % (q, q, q), re.DOTALL)
        e = re.escape(self.escape)
        return re.compile(
            rb"(?:[^%b%b]++|%b%b|%b(?:.|\Z))*+" % (q, e, q, q, e), re.DOTALL
        )

    @cached_property
    def bare(self) -> re.Pattern[bytes]:
        """Matches a cell without quotes."""
        first, s = re.escape(self.separator[:1]), re.escape(self.separator)
        if self.escape is None:
            return re.compile(rb"(?:[^%b]++|(?!%b).)*+" % (first, s), re.DOTALL)
        e = re.escape(self.escape)
        return re.compile(
            rb"(?:[^%b%b]++|%b.|(?!%b)[^%b])*+" % (first, e, e, s, e), re.DOTALL
        )
