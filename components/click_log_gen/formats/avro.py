"""Avro object container files: blocks of records to Arrow columns.

Format: https://avro.apache.org/docs/1.11.1/specification/
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import fastavro
import numpy as np
import pyarrow as pa

from components.click_log_gen.columns.nested import (
    UnfitError,
    as_text,
    pick,
    text_array,
)
from components.click_log_gen.columns.rows import Rejected, Rows
from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.files.chunks import Chunk, open_raw
from components.click_log_gen.formats.avro_schema import Schema
from components.click_log_gen.formats.log_format import LogFormat
from components.click_log_gen.formats.text import by_bytes
from models.errors import InputError

_BLOCK_BYTES = 1 << 28  # that a block may have, packed or not
_HEAD_BYTES = 1 << 24
_MARK_BYTES = 16
_PIECE = 1 << 16


@dataclass(frozen=True)
class _Head:
    """schema: as JSON. mark: stands after each block. size: bytes of it."""

    schema: bytes
    codec: str
    mark: bytes
    size: int


@dataclass(frozen=True)
class _Block:
    """offset: of the block in the file. count: of its records."""

    offset: int
    count: int
    packed: bytes


class Avro(LogFormat):
    """A chunk is the blocks that begin in it.

    A column `a.b` is field b of the record a.
    """

    magic = b"Obj\x01"
    names_columns = True
    accepted = "an Avro file, whose blocks are packed inside it"

    def read(
        self, chunk: Chunk, source: LogFiles, columns: Mapping[str, str]
    ) -> Iterator[Rows]:
        """The records of the blocks that begin in `chunk`.

        Raises:
            InputError: a column is missing, or the file is damaged.
        """
        with open_raw(chunk.path) as stream:
            head = _head(stream)
            schema = Schema(head.schema)
            types = {name: schema.type(name) for name in columns}
            ordinal = 0
            for block in _blocks(stream, chunk, head):
                records = _records(block, head, schema)
                rows = _rows(chunk.path, block, records, types)
                rows.ordinal += ordinal
                ordinal += block.count
                yield rows

    def count(self, chunk: Chunk, source: LogFiles) -> int:
        """Records of `chunk`, as its blocks say."""
        with open_raw(chunk.path) as stream:
            blocks = _blocks(stream, chunk, _head(stream))
            return sum(block.count for block in blocks)

    def split(self, path: str, size: int) -> Iterator[tuple[int, int]]:
        """Pieces of CHUNK_BYTES; a block belongs to the one it begins in."""
        return by_bytes(size)

    def names(self, chunk: Chunk, source: LogFiles) -> Sequence[str]:
        """The columns of the chunk's file."""
        with open_raw(chunk.path) as stream:
            return Schema(_head(stream).schema).columns

    def types(self, path: str, names: Iterable[str]) -> dict[str, pa.DataType]:
        """The types of the columns that the file has."""
        with open_raw(path) as stream:
            schema = Schema(_head(stream).schema)
        found = {name: schema.type(name) for name in names}
        return {name: kind for name, kind in found.items() if kind is not None}


AVRO = Avro()


def _head(stream: IO[bytes]) -> _Head:
    data = stream.read(_PIECE)
    if data[:4] != b"Obj\x01":
        raise InputError("not an Avro file")
    kind = {"type": "map", "values": "bytes"}
    while True:
        source = io.BytesIO(data)
        source.seek(4)
        try:
            meta: Any = fastavro.schemaless_reader(source, kind, None)
            mark = source.read(_MARK_BYTES)
            if len(mark) == _MARK_BYTES:
                break
            raise EOFError("the end of the file")
        except Exception as error:  # whatever wrong bytes make it raise
            more = stream.read(len(data))
            if not more or len(data) > _HEAD_BYTES:
                raise _damaged(f"its header: {error}") from error
            data += more
    schema = meta.get("avro.schema", b"")
    codec = meta.get("avro.codec", b"null").decode("ascii", "replace")
    if codec not in _CODECS:
        raise InputError(
            f"Avro codec {codec!r}; accepted: {', '.join(_CODECS)}"
        )
    return _Head(schema, codec, mark, source.tell())


def _blocks(stream: IO[bytes], chunk: Chunk, head: _Head) -> Iterator[_Block]:
    offset = _first_block(stream, chunk, head)
    stream.seek(offset)
    while offset < chunk.end:
        number = _varint(stream)
        size = _varint(stream)
        if number is None or size is None:
            if offset == chunk.stamp[0]:
                return
            raise _damaged(f"its end, inside the block at byte {offset}")
        if not 0 <= size <= _BLOCK_BYTES or number < 0:
            raise _damaged(
                f"{number} records in {size} bytes, block at byte {offset}"
            )
        packed = stream.read(size)
        mark = stream.read(_MARK_BYTES)
        if mark != head.mark:
            raise _damaged(f"the end of the block at byte {offset}")
        yield _Block(offset, number, packed)
        offset = stream.tell()


def _first_block(stream: IO[bytes], chunk: Chunk, head: _Head) -> int:
    """Where the first block at or after the chunk's start begins."""
    if chunk.start <= head.size:
        return head.size
    offset = chunk.start - _MARK_BYTES
    stream.seek(offset)
    data = b""
    while offset + _MARK_BYTES < chunk.end:
        piece = stream.read(_PIECE)
        data += piece
        at = data.find(head.mark)
        if at >= 0:
            return offset + at + _MARK_BYTES
        if not piece:
            break
        drop = max(0, len(data) - _MARK_BYTES + 1)
        offset, data = offset + drop, data[drop:]
    return chunk.end


def _varint(stream: IO[bytes]) -> int | None:
    """A zigzag number; None at the end of the file."""
    value = shift = 0
    while byte := stream.read(1):
        value |= (byte[0] & 127) << shift
        shift += 7
        if byte[0] < 128 or shift > 63:
            return (value >> 1) ^ -(value & 1)
    return None


def _zigzag(number: int) -> bytes:
    value, data = number << 1, bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def _records(
    block: _Block, head: _Head, schema: Schema
) -> list[dict[str, Any]]:
    """The records of a block, decoded as one array of them."""
    where = f"block at byte {block.offset}"
    try:
        data = _CODECS[head.codec](block.packed)
    except Exception as error:  # each codec has its own
        raise _damaged(f"{error}, {where}") from error
    if len(data) > _BLOCK_BYTES:
        raise InputError(
            f"Avro {where}: it unpacks to more than {_BLOCK_BYTES:,} bytes"
        )
    if block.count > len(data):
        raise _damaged(f"{block.count} records in {len(data)} bytes, {where}")
    if not block.count:
        if data:
            raise _damaged(f"no records in {len(data)} bytes, {where}")
        return []
    source = io.BytesIO(_zigzag(block.count) + data + b"\0")
    try:
        records: Any = fastavro.schemaless_reader(
            source,
            schema.decoder,
            None,
            handle_unicode_errors="surrogateescape",
        )
    except Exception as error:  # whatever wrong bytes make it raise
        raise _damaged(f"{error!r:.200}, {where}") from error
    if len(records) != block.count or source.read(1):
        raise _damaged(f"not {block.count} records, {where}")
    return list(records)


def _rows(
    path: str,
    block: _Block,
    records: list[dict[str, Any]],
    types: Mapping[str, pa.DataType | None],
) -> Rows:
    values = {name: [pick(r, name) for r in records] for name in types}
    reasons: dict[int, str] = {}
    for name, kind in types.items():
        if kind is None:
            values[name] = _texts(name, values[name], reasons)

    def locate(index: int) -> tuple[str, bytes]:
        at = int(kept[index])
        row = {name: column[at] for name, column in values.items()}
        shown = repr(row).encode(errors="backslashreplace")
        return f"byte {block.offset} record {at}", shown

    def locate_all() -> tuple[pa.Array, pa.Array]:
        found = [locate(index) for index in range(len(kept))]
        where, rows = zip(*found, strict=True) if found else ((), ())
        return pa.array(where, pa.string()), pa.array(rows, pa.binary())

    kept = np.arange(len(records), dtype=np.int64)
    bad = sorted(reasons)
    rejected = [
        Rejected(path, where, reasons[at], row)
        for at, (where, row) in ((at, locate(at)) for at in bad)
    ]
    kept = np.delete(kept, bad)
    chosen = pa.array(kept)
    columns, loose = {}, []
    for name, kind in types.items():
        array, mixed = _array(values[name], kind)
        columns[name] = array.take(chosen)
        loose += [name] * mixed
    return Rows(
        columns,
        kept.copy(),
        locate,
        rejected,
        locate_all=locate_all,
        loose=loose,
    )


def _texts(name: str, values: list[Any], reasons: dict[int, str]) -> list[Any]:
    """Values of several types as text; reasons against those that have none."""
    found = []
    for index, value in enumerate(values):
        if isinstance(value, bytes):
            value = value.decode(errors="surrogateescape")
        try:
            found.append(as_text(name, value))
        except UnfitError as error:
            reasons.setdefault(index, str(error))
            found.append(None)
    return found


def _array(
    values: list[Any], kind: pa.DataType | None
) -> tuple[pa.Array, bool]:
    """A column, and whether it is loose: see `Rows`."""
    if kind is None:
        return text_array(values)
    return _typed(values, kind), False


def _typed(values: list[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:
        if pa.types.is_list(kind):
            values = [v and [_bytes(item) for item in v] for v in values]
            return pa.array(values, pa.list_(pa.binary()))
        return pa.array([_bytes(v) for v in values], pa.binary())
    except (pa.ArrowException, TypeError):
        return pa.array(values)  # decimals of more digits than declared


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode(errors="surrogateescape")


def _damaged(what: str) -> InputError:
    return InputError(
        f"damaged Avro file: {what}. Nothing was ingested; replace the file or"
        " take it out of the log's `path`"
    )


def _with(decompressor: Any, packed: bytes) -> bytes:
    """All of `packed`, or a little more than a block may unpack to."""
    data: bytes = decompressor.decompress(packed, _BLOCK_BYTES + 1)
    if not decompressor.eof and len(data) <= _BLOCK_BYTES:
        raise EOFError("compressed data without an end")
    return data


def _snappy(packed: bytes) -> bytes:
    size = _varint(io.BytesIO(packed))
    # The length is no zigzag number, and a checksum follows the data.
    size = 0 if size is None else (size << 1 if size >= 0 else -2 * size - 1)
    if size > _BLOCK_BYTES:
        raise ValueError(f"{size} bytes in a block")
    plain: bytes = pa.decompress(
        packed[:-4], size, codec="snappy", asbytes=True
    )
    if zlib.crc32(plain).to_bytes(4, "big") != packed[-4:]:
        raise ValueError("a wrong checksum")
    return plain


def _zstandard(packed: bytes) -> bytes:
    with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
        plain: bytes = stream.read(_BLOCK_BYTES + 1)
    return plain


_CODECS = {
    "null": lambda packed: packed,
    "deflate": lambda packed: _with(zlib.decompressobj(-15), packed),
    "bzip2": lambda packed: _with(bz2.BZ2Decompressor(), packed),
    "xz": lambda packed: _with(lzma.LZMADecompressor(), packed),
    "snappy": _snappy,
    "zstandard": _zstandard,
}
