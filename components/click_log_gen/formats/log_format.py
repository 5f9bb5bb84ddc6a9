"""Interface of a log format: one object that the whole ingest asks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from components.click_log_gen.columns.rows import Rows
from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.config.log_formats import log_format
from components.click_log_gen.files import decompression, file_kinds
from components.click_log_gen.files.chunks import Chunk
from models.errors import InputError


class LogFormat(ABC):
    """A log format. Only `read` must be written; see docs/extending.md.

    Attributes:
        settings: fields of `LogFiles`, beside those that all formats take,
            that the format takes -> default, such as `header`.
        magic: the first bytes of each file; b"" if a file begins with data.
        is_text: files are text in UTF-8.
        packable: a whole file may be packed with gzip, zstd or bzip2.
        names_columns: each file says which columns it has.
        columnar: some columns are read without the bytes of the others.
        accepted: what a file must be, for errors.
    """

    settings: Mapping[str, Any] = {}
    magic: bytes = b""
    is_text: bool = False
    packable: bool = False
    names_columns: bool = False
    columnar: bool = False
    accepted: str = "a file of the format"

    @abstractmethod
    def read(
        self, chunk: Chunk, source: LogFiles, columns: Mapping[str, str]
    ) -> Iterator[Rows]:
        """The rows that begin in `chunk`, in order, some at a time.

        Args:
            chunk: bytes `start` to `end`, or whatever `split` counts; the
                whole file if `chunk.whole`.
            source: the log's settings.
            columns: name -> what it will be read as: float, int, string,
                label or time. A hint: other values come as they are.

        Raises:
            InputError: the file as a whole cannot be read.
        """

    def count(self, chunk: Chunk, source: LogFiles) -> int:
        """Rows of `chunk`, rejected ones included."""
        batches = self.read(chunk, source, {})
        return sum(rows.count + len(rows.rejected) for rows in batches)

    def split(self, path: str, size: int) -> Iterator[tuple[int, int]]:
        """Start and end of each chunk of a file that is not packed.

        By default one of 0 and -1: one worker reads the whole file.
        """
        yield 0, -1

    def is_head(self, head: bytes) -> bool:
        """True if the first bytes of a file are surely of this format."""
        return bool(self.magic) and head.startswith(self.magic)

    def check_head(self, head: bytes, path: str) -> None:
        """Looks at the first bytes of a file.

        Raises:
            InputError: they are of a known kind of file that is another.
        """
        file_kinds.check(head, path, self.accepted, self.magic, self.is_text)

    def codec(self, head: bytes, path: str) -> str:
        """The codec of a file by its first bytes; "" if it is not packed.

        Raises:
            InputError: the format cannot read such a file.
        """
        if self.is_head(head):
            return ""
        packed = decompression.codec_of(head) if self.packable else ""
        if not packed:
            self.check_head(head, path)
        return packed

    def names(self, chunk: Chunk, source: LogFiles) -> Sequence[str]:
        """Columns of the chunk's file, if the format `names_columns`."""
        return ()

    def types(self, path: str, names: Iterable[str]) -> dict[str, pa.DataType]:
        """Those of the columns `names` whose type the file says."""
        return {}

    def peek(self, path: str, source: LogFiles) -> list[str] | None:
        """Columns of a local file by its first bytes, to check a config.

        None if they do not tell; never an error.
        """
        return None


def of(source: LogFiles) -> LogFormat:
    """The format of a log.

    Raises:
        InputError: it is not known, or the user's own is no LogFormat.
    """
    try:
        found = log_format(source.format)
    except ValueError as error:
        raise InputError(str(error)) from error
    if not isinstance(found, LogFormat):
        raise InputError(
            f"`format`: received {source.format!r}, a {type(found).__name__}."
            " Accepted: a LogFormat"
        )
    return found
