"""Chunks of work, and the bytes and lines of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, cast

from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.files import decompression, file_kinds
from components.click_log_gen.files.lines import Lines
from models.config.paths import is_local
from models.errors import InputError

CHUNK_BYTES = 32 << 20
BLOCK_BYTES = 4 << 20
KEPT_BYTES = 1 << 10  # of a line that is too long
HEAD_BYTES = 1 << 14  # of a file, that tell what it is
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Chunk:
    """A piece of one file that one worker reads from start to end.

    `start` and `end` are bytes of a plain text file (lines that begin there
    belong to the chunk), row groups of a parquet file, and 0 and -1 for a
    file that is read whole.

    codec: gzip, zstd or bzip2; "" for a plain file. stamp: the file's size
    and modification time when the work was planned. first: the log's first
    file.
    """

    number: int
    path: str
    start: int
    end: int
    codec: str
    stamp: tuple[int, float]
    first: str

    @property
    def whole(self) -> bool:
        """True if the chunk is its whole file."""
        return self.end < 0


@contextmanager
def unchanged(chunk: Chunk) -> Iterator[None]:
    """Holds the chunk's file to what it was when the work was planned.

    Raises:
        InputError: it was replaced, cut or written to meanwhile.
    """
    try:
        yield
    except InputError as error:
        _check_stamp(chunk, error)
        raise
    _check_stamp(chunk, None)


def _check_stamp(chunk: Chunk, cause: InputError | None) -> None:
    from apache_beam.io.filesystems import FileSystems  # takes a second

    try:
        found = FileSystems.get_filesystem(chunk.path).metadata(chunk.path)
        size, time = found.size_in_bytes, found.last_updated_in_seconds
    except NotImplementedError:
        return
    except Exception:  # each filesystem has its own for a file that is gone
        size, time = -1, 0.0
    # Some object stores tell fractions of a second in lists only.
    exact = 1.0 if "://" in chunk.path else 0.0
    if size != chunk.stamp[0] or abs(time - chunk.stamp[1]) > exact:
        raise InputError(
            "the file changed while it was read. Ingest logs that are complete,"
            " or a copy"
        ) from cause


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Puts the file's name before the message of an InputError."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def open_raw(path: str) -> IO[bytes]:
    """The file's own bytes, on any Beam filesystem."""
    if is_local(path):
        try:
            return Path(path).open("rb")
        except OSError as error:
            raise InputError(f"cannot be opened: {error}") from error
    from apache_beam.io.filesystem import CompressionTypes  # takes a second
    from apache_beam.io.filesystems import FileSystems

    try:
        stream = FileSystems.open(
            path, compression_type=CompressionTypes.UNCOMPRESSED
        )
    except OSError as error:
        raise InputError(f"cannot be opened: {error}") from error
    return cast(IO[bytes], stream)


@contextmanager
def open_chunk(chunk: Chunk, source: LogFiles) -> Iterator[IO[bytes]]:
    """The uncompressed bytes of the chunk's file, from its start."""
    with open_raw(chunk.path) as raw:
        if not chunk.codec:
            yield raw
            return
        yield cast(
            IO[bytes],
            decompression.Unpacked(
                raw, chunk.codec, chunk.stamp[0], source.max_expansion
            ),
        )


@dataclass(frozen=True)
class Block:
    """Whole lines; or, if `long`, the first bytes of one that is too long.

    offset: of the first byte in the uncompressed file.
    """

    offset: int
    data: bytes
    long: bool = False


def blocks(
    chunk: Chunk, source: LogFiles, size: int | None = None
) -> Iterator[Block]:
    """The lines of `chunk`, in order.

    A byte order mark at the start of the file is left out. Memory is bounded
    by `size` (default: BLOCK_BYTES) and `source.max_line_bytes`.
    """
    size = BLOCK_BYTES if size is None else size
    limit = source.max_line_bytes
    with open_chunk(chunk, source) as stream:
        offset, pieces = _lines_of(stream, chunk, size)
        rest = b""
        long: Block | None = None
        for piece in pieces:
            if long is not None:
                at = piece.find(b"\n") + 1
                offset += at or len(piece)
                if not at:
                    continue
                yield long
                long, piece = None, piece[at:]
            data = rest + piece
            cut = data.rfind(b"\n") + 1
            yield from _split(Block(offset, data[:cut]), limit)
            offset += cut
            rest = data[cut:]
            if len(rest) > limit + 1:  # which may be a \r
                long = Block(offset, rest[:KEPT_BYTES], long=True)
                offset += len(rest)
                rest = b""
        if long is not None:
            yield long
        yield from _split(Block(offset, rest), limit)


def _split(block: Block, limit: int) -> Iterator[Block]:
    """`block` with each line that is too long as a block of its own."""
    data, start = block.data, 0
    if len(data) > limit:
        starts, ends = Lines("", 0, data).spans
        for line in (ends - starts > limit).nonzero()[0]:
            begin, end = int(starts[line]), int(ends[line])
            if begin > start:
                yield Block(block.offset + start, data[start:begin])
            kept = data[begin : min(end, begin + KEPT_BYTES)]
            yield Block(block.offset + begin, kept, long=True)
            start = end
    if start < len(data):
        yield Block(block.offset + start, data[start:])


def _lines_of(
    stream: IO[bytes], chunk: Chunk, size: int
) -> tuple[int, Iterator[bytes]]:
    """Where the chunk's first line begins, and its bytes from there on."""
    if chunk.start:
        # The line that runs into the chunk belongs to the one before.
        stream.seek(chunk.start - 1)
        offset = chunk.start - 1 + skip_line(stream, chunk.end - chunk.start)
        return offset, _pieces_of(stream, chunk, offset, size)
    head = stream.read(HEAD_BYTES if chunk.whole else len(_BOM))
    offset = len(_BOM) if head.startswith(_BOM) else 0
    if chunk.whole:
        file_kinds.check(head, chunk.path)
        pieces = _pieces_of(stream, chunk, offset, size)
        return offset, chain([head[offset:]], pieces)
    stream.seek(offset)
    return offset, _pieces_of(stream, chunk, offset, size)


def skip_line(stream: IO[bytes], most: int) -> int:
    """Reads to the end of a line, or a little over `most`; returns how far."""
    skipped = 0
    while skipped <= most:
        data = stream.readline(1 << 16)
        skipped += len(data)
        if not data or data.endswith(b"\n"):
            break
    return skipped


def _pieces_of(
    stream: IO[bytes], chunk: Chunk, offset: int, size: int
) -> Iterator[bytes]:
    """The bytes from `offset` to the end of the chunk's last line."""
    ended = chunk.start > 0
    while chunk.whole or offset < chunk.end:
        wanted = size if chunk.whole else min(size, chunk.end - offset)
        data = stream.read(wanted)
        if not data:
            return
        offset += len(data)
        ended = data.endswith(b"\n")
        yield data
    while not ended and (data := stream.readline(size)):
        ended = data.endswith(b"\n")
        yield data
