"""Formats whose rows are lines of text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping

from components.click_log_gen.columns.rows import Rows
from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.files import chunks, file_kinds
from components.click_log_gen.files.chunks import Chunk
from components.click_log_gen.files.lines import Lines
from components.click_log_gen.formats.log_format import LogFormat


class TextFormat(LogFormat):
    """A line is a row; only `parse` must be written."""

    is_text = True
    packable = True
    accepted = file_kinds.TEXT

    @abstractmethod
    def parse(
        self, lines: Lines, source: LogFiles, columns: Mapping[str, str]
    ) -> Rows:
        """The rows of some lines; see `Lines.rows`."""

    def read(
        self, chunk: Chunk, source: LogFiles, columns: Mapping[str, str]
    ) -> Iterator[Rows]:
        """The rows of `chunk`, a block of lines at a time."""
        ordinal = 0
        for lines in self.lines(chunk, source):
            if lines.refused:
                rows = lines.nothing(columns)
            else:
                rows = self.parse(lines, source, columns)
            rows.ordinal += ordinal
            ordinal += rows.count + len(rows.rejected)
            yield rows

    def count(self, chunk: Chunk, source: LogFiles) -> int:
        """Lines of `chunk` that are not empty."""
        return sum(len(lines) for lines in self.lines(chunk, source))

    def split(self, path: str, size: int) -> Iterator[tuple[int, int]]:
        """Pieces of CHUNK_BYTES; a line belongs to the one it begins in."""
        return by_bytes(size)

    def lines(self, chunk: Chunk, source: LogFiles) -> Iterator[Lines]:
        """The lines of `chunk`, a block at a time."""
        for block in chunks.blocks(chunk, source):
            refused = source.too_long if block.long else ""
            yield Lines(chunk.path, block.offset, block.data, refused=refused)


def by_bytes(size: int) -> Iterator[tuple[int, int]]:
    """Cuts a file of `size` bytes into pieces of CHUNK_BYTES."""
    for start in range(0, size, chunks.CHUNK_BYTES):
        yield start, min(start + chunks.CHUNK_BYTES, size)
