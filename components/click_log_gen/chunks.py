"""Which files there are, and how they are cut into chunks of work."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, cast

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.click_log_gen.config import LogFiles
from models.errors import InputError

CHUNK_BYTES = 32 << 20
BLOCK_BYTES = 4 << 20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Chunk:
    """A piece of one file that one worker reads from start to end.

    `start` and `end` are bytes of a plain text file (lines that begin there
    belong to the chunk), row groups of a parquet file, and 0 and -1 for a
    file that is read whole.
    """

    number: int
    path: str
    start: int
    end: int
    gzip: bool

    @property
    def whole(self) -> bool:
        """Whether the chunk is its whole file."""
        return self.end < 0


def find(
    patterns: tuple[str, ...], field: str = "data.impressions.path"
) -> list[tuple[str, int, float]]:
    """Path, size and modification time of each file.

    In the order of the patterns; what one glob matches is sorted by path.
    `field` is where in the config the patterns are.

    Raises:
        InputError: a pattern matches nothing, or a folder.
    """
    found: dict[str, tuple[str, int, float]] = {}
    for pattern in patterns:
        if os.path.isdir(pattern):  # noqa: PTH112 (it may be a URI)
            raise InputError(
                f"{field}: {pattern!r} is a folder; accepted: a"
                f" file or a glob, such as {os.path.join(pattern, '*')!r}"
            )
        try:
            matches = FileSystems.match([pattern])[0].metadata_list
        except Exception as error:
            raise InputError(
                f"{field}: {pattern!r} cannot be listed: {error}"
            ) from error
        if not matches:
            raise InputError(f"{field}: no file matches {pattern!r}")
        for match in sorted(matches, key=lambda match: str(match.path)):
            found.setdefault(
                match.path,
                (
                    match.path,
                    match.size_in_bytes,
                    match.last_updated_in_seconds,
                ),
            )
    return list(found.values())


def plan(source: LogFiles, field: str = "data.impressions.path") -> list[Chunk]:
    """Cuts all files of `source`, in the order of `find`; empty ones not."""
    pieces: list[tuple[str, int, int, bool]] = []
    for path, size, _ in find(source.path, field):
        if size:
            with naming(path):
                pieces += _pieces(path, size, source.format)
    return [Chunk(number, *piece) for number, piece in enumerate(pieces)]


def _pieces(
    path: str, size: int, format: str
) -> Iterator[tuple[str, int, int, bool]]:
    if format == "parquet":
        for start, end in _row_groups(path):
            yield path, start, end, False
        return
    with open_raw(path) as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    if zipped or format == "tfrecord":
        yield path, 0, -1, zipped
        return
    for start in range(0, size, CHUNK_BYTES):
        yield path, start, min(start + CHUNK_BYTES, size), False


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Puts the file's name before the message of an InputError."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def open_raw(path: str) -> IO[bytes]:
    """The file's own bytes, on any Beam filesystem."""
    try:
        stream = FileSystems.open(
            path, compression_type=CompressionTypes.UNCOMPRESSED
        )
    except OSError as error:
        raise InputError(f"cannot be opened: {error}") from error
    return cast(IO[bytes], stream)


@contextmanager
def open_chunk(chunk: Chunk) -> Iterator[IO[bytes]]:
    """The uncompressed bytes of the chunk's file, from its start.

    Raises:
        InputError: while the file is read, where its gzip is damaged.
    """
    with open_raw(chunk.path) as raw:
        if not chunk.gzip:
            yield raw
            return
        try:
            yield cast(IO[bytes], gzip.GzipFile(fileobj=raw))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(
                f"damaged gzip ({error}). Nothing was ingested; replace the"
                " file or take it out of the log's `path`"
            ) from error


def blocks(
    chunk: Chunk, size: int | None = None
) -> Iterator[tuple[int, bytes]]:
    """Whole lines of `chunk` as (offset of the first byte, bytes).

    Offsets are those of the uncompressed file; a byte order mark at its start
    is left out. Memory is bounded by `size` (default: BLOCK_BYTES) and the
    longest line.
    """
    size = BLOCK_BYTES if size is None else size
    with open_chunk(chunk) as stream:
        offset = 0
        if chunk.start:
            # The line that runs into the chunk belongs to the one before.
            stream.seek(chunk.start - 1)
            offset = chunk.start - 1 + len(stream.readline())
        rest = b""
        while chunk.whole or offset + len(rest) < chunk.end:
            wanted = size
            if not chunk.whole:
                wanted = min(size, chunk.end - offset - len(rest))
            data = stream.read(wanted)
            at_end = not data
            data = rest + data
            at_cut = not chunk.whole and offset + len(data) >= chunk.end
            if at_cut and not at_end and not data.endswith(b"\n"):
                data += stream.readline()
            cut = len(data)
            if not at_end and not at_cut:
                cut = data.rfind(b"\n") + 1
            mark = 0 if offset or not data.startswith(_BOM) else len(_BOM)
            if cut > mark:
                yield offset + mark, data[mark:cut]
            offset += cut
            rest = data[cut:]
            if at_end:
                break


@contextmanager
def open_parquet(path: str) -> Iterator[pq.ParquetFile]:
    """The parquet file at `path`.

    Raises:
        InputError: it is none, or its footer is damaged.
    """
    with open_raw(path) as stream:
        try:
            file = pq.ParquetFile(stream, page_checksum_verification=True)
            _ = file.schema_arrow.names  # which may not even be text
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"not a parquet file, or damaged: {error}"
            ) from error
        yield file


def _row_groups(path: str) -> Iterator[tuple[int, int]]:
    with open_parquet(path) as file:
        metadata = file.metadata
        start = size = 0
        for group in range(metadata.num_row_groups):
            size += metadata.row_group(group).total_byte_size
            if size >= CHUNK_BYTES:
                yield start, group + 1
                start, size = group + 1, 0
        if start < metadata.num_row_groups:
            yield start, metadata.num_row_groups
