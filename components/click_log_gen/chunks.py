"""Which files there are, and how they are cut into chunks of work."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, cast

import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.click_log_gen.config import LogFiles
from models.errors import InputError

CHUNK_BYTES = 32 << 20
BLOCK_BYTES = 4 << 20


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


def find(patterns: tuple[str, ...]) -> list[tuple[str, int, float]]:
    """Path, size and modification time of each match, sorted by path.

    Raises:
        InputError: a pattern matches nothing.
    """
    found: dict[str, tuple[str, int, float]] = {}
    for pattern in patterns:
        try:
            matches = FileSystems.match([pattern])[0].metadata_list
        except Exception as error:
            raise InputError(
                f"data.impressions.path: {pattern!r} cannot be listed: {error}"
            ) from error
        if not matches:
            raise InputError(
                f"data.impressions.path: no file matches {pattern!r}"
            )
        for match in matches:
            found[match.path] = (
                match.path,
                match.size_in_bytes,
                match.last_updated_in_seconds,
            )
    return [found[path] for path in sorted(found)]


def data_version(patterns: tuple[str, ...]) -> str:
    """Changes when a file is added, removed, resized or touched."""
    digest = hashlib.sha256()
    for entry in find(patterns):
        digest.update(repr(entry).encode())
    return digest.hexdigest()[:16]


def plan(source: LogFiles) -> list[Chunk]:
    """Cuts all files of `source`, in the order of their paths."""
    pieces: list[tuple[str, int, int, bool]] = []
    for path, size, _ in find(source.path):
        if size == 0:
            continue
        with open_raw(path) as stream:
            zipped = stream.read(2) == b"\x1f\x8b"
        if source.format == "parquet":
            pieces += [(path, a, b, False) for a, b in _row_groups(path)]
        elif zipped or source.format == "tfrecord":
            pieces.append((path, 0, -1, zipped))
        else:
            pieces += [
                (path, start, min(start + CHUNK_BYTES, size), False)
                for start in range(0, size, CHUNK_BYTES)
            ]
    return [Chunk(number, *piece) for number, piece in enumerate(pieces)]


def open_raw(path: str) -> IO[bytes]:
    """The file's own bytes, on any Beam filesystem."""
    stream = FileSystems.open(
        path, compression_type=CompressionTypes.UNCOMPRESSED
    )
    return cast(IO[bytes], stream)


def blocks(
    chunk: Chunk, size: int = BLOCK_BYTES
) -> Iterator[tuple[int, bytes]]:
    """Whole lines of `chunk` as (offset of the first byte, bytes).

    Offsets are those of the uncompressed file. Memory is bounded by `size`
    and the longest line.
    """
    with open_raw(chunk.path) as raw:
        stream = (
            cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if chunk.gzip else raw
        )
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
            data = _read(stream, wanted, chunk.path)
            at_end = not data
            data = rest + data
            at_cut = not chunk.whole and offset + len(data) >= chunk.end
            if at_cut and not at_end and not data.endswith(b"\n"):
                data += stream.readline()
            cut = len(data)
            if not at_end and not at_cut:
                cut = data.rfind(b"\n") + 1
            if cut:
                yield offset, data[:cut]
            offset += cut
            rest = data[cut:]
            if at_end:
                break


def _read(stream: IO[bytes], size: int, path: str) -> bytes:
    try:
        return stream.read(size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path}: damaged gzip ({error}). Nothing was ingested; replace"
            " the file or take it out of data.impressions.path"
        ) from error


def _row_groups(path: str) -> Iterator[tuple[int, int]]:
    with open_raw(path) as stream:
        try:
            metadata = pq.ParquetFile(stream).metadata
        except Exception as error:
            raise InputError(f"{path}: not a parquet file: {error}") from error
        start = size = 0
        for group in range(metadata.num_row_groups):
            size += metadata.row_group(group).total_byte_size
            if size >= CHUNK_BYTES:
                yield start, group + 1
                start, size = group + 1, 0
        if start < metadata.num_row_groups:
            yield start, metadata.num_row_groups
