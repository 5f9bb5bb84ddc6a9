"""TFRecord files: checked frames read from a stream, and written in bulk.

Format: https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Protocol

import google_crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.example_io import native
from models.errors import InputError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_LENGTH = struct.Struct("<Q")
_FRAME = _HEADER.size + _FOOTER.size
_PIECE = 1 << 20
_BLOCK = 1 << 23
PAD = bytes(16)  # behind the last record: readers may look eight bytes ahead
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Records:
    """Records in one buffer.

    data: with `PAD` behind the last record.
    starts, ends: of each record, rising; int64 [N].
    """

    data: bytes
    starts: Ints
    ends: Ints

    def __len__(self) -> int:
        return len(self.starts)

    def to_list(self) -> list[bytes]:
        """Each record by itself."""
        places = zip(self.starts.tolist(), self.ends.tolist(), strict=True)
        return [self.data[start:end] for start, end in places]


def joined(records: pa.BinaryArray) -> Records:
    """Records of an array, in one buffer."""
    large = records.cast(pa.large_binary())
    _, offsets, data = large.buffers()
    places = np.frombuffer(offsets, np.int64)[large.offset :][: len(large) + 1]
    return Records(data.to_pybytes() + PAD, places[:-1], places[1:])


def is_header(head: bytes) -> bool:
    """True if the first bytes of a file are a length and its checksum."""
    if len(head) < _HEADER.size:
        return False
    return bool(_masked(head[:8]) == _HEADER.unpack(head[: _HEADER.size])[1])


def read(
    stream: IO[bytes], longest: int, kept: int
) -> Iterator[tuple[bytes, int]]:
    """The records of `stream`, checked, and how many bytes each has.

    Of one with more than `longest` only the first `kept` are given.

    Raises:
        InputError: the file is damaged, or is no TFRecord file.
    """
    offset = 0
    while header := stream.read(_HEADER.size):
        length = 0
        if len(header) == _HEADER.size:
            length, checksum = _HEADER.unpack(header)
            if _masked(header[:8]) != checksum:
                raise _damaged("a wrong checksum", offset)
        if length > longest:
            record, checksum = _long(stream, length, kept)
        else:
            record = stream.read(length)
            checksum = _masked(record)
        footer = stream.read(_FOOTER.size)
        if len(footer) < _FOOTER.size:
            raise _damaged("the end of the file inside the record", offset)
        if _FOOTER.unpack(footer) != (checksum,):
            raise _damaged("a wrong checksum", offset)
        yield record, length
        offset += _HEADER.size + length + _FOOTER.size


class Stream(Protocol):
    """Bytes that are read one after another."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


def blocks(stream: Stream, rows: int, size: int = _BLOCK) -> Iterator[Records]:
    """The records of `stream`, checked, up to `rows` of them at a time.

    Several times faster than `read`, for files of our own. About `size` bytes
    are read at a time.

    Raises:
        InputError: the file is damaged.
    """
    offset, rest = 0, b""
    while piece := stream.read(size):
        data = b"".join((rest, piece, PAD))
        last = len(data) - len(PAD)
        if native.usable():
            begin, end, at, wrong = native.frames(data, last)
            if wrong:
                raise _damaged("a wrong checksum", offset + at)
        else:
            begin, end = _frames(data, last, offset)
        parts = max(1, -(-len(begin) // rows))
        for some in np.array_split(np.arange(len(begin)), parts):
            if len(some):
                yield Records(data, begin[some], end[some])
        done = int(end[-1]) + _FOOTER.size if len(end) else 0
        offset, rest = offset + done, data[done:last]
    if rest:
        raise _damaged("the end of the file inside the record", offset)


def _frames(data: bytes, last: int, offset: int) -> tuple[Ints, Ints]:
    """First and last place of each whole record."""
    found, at = [], 0
    length_of = _LENGTH.unpack_from
    while at + _HEADER.size <= last:
        begin = at + _HEADER.size
        end = begin + length_of(data, at)[0]
        if end + _FOOTER.size > last:
            if not is_header(data[at : at + _HEADER.size]):
                raise _damaged("a wrong checksum", offset + at)
            break
        found.append(begin)
        at = end + _FOOTER.size
    begins = np.array(found, np.int64)
    if not found:
        return begins, begins
    ends = np.append(begins[1:], at + _HEADER.size) - _FRAME
    checksums = np.fromiter(
        (
            google_crc32c.value(data[begin:end])
            for begin, end in zip(found, ends.tolist(), strict=True)
        ),
        np.uint32,
        len(found),
    )
    numbers = np.ndarray((last,), np.dtype("<u4"), data, strides=(1,))
    lengths, which = np.unique(ends - begins, return_inverse=True)
    headers = [_masked(_LENGTH.pack(length)) for length in lengths.tolist()]
    wrong = numbers[ends] != _mask(checksums)
    wrong |= numbers[begins - 4] != np.array(headers, np.uint32)[which]
    if wrong.any():
        at = int(begins[wrong.argmax()]) - _HEADER.size
        raise _damaged("a wrong checksum", offset + at)
    return begins, ends


def _long(stream: IO[bytes], length: int, kept: int) -> tuple[bytes, int]:
    """The first bytes of a record, and the checksum of all of them."""
    first, checksum = b"", google_crc32c.Checksum()
    while length:
        data = stream.read(min(length, _PIECE))
        if not data:
            break
        length -= len(data)
        first = first or data[:kept]
        checksum.update(data)
    value = int.from_bytes(checksum.digest(), "big")
    return first, int(_mask(np.array([value], np.uint32))[0])


def _damaged(what: str, offset: int) -> InputError:
    return InputError(
        f"damaged TFRecord file: {what}, record at byte {offset}. Nothing was"
        " ingested; replace the file or take it out of the log's `path`"
    )


def frame(records: pa.BinaryArray) -> pa.Buffer:
    """The bytes of a TFRecord file that holds `records`."""
    lengths = pc.binary_length(records).to_numpy().astype(np.int64)
    distinct, which = np.unique(lengths, return_inverse=True)
    packed = [struct.pack("<Q", length) for length in distinct]
    headers = pa.array(
        [data + _FOOTER.pack(_masked(data)) for data in packed], pa.binary()
    )
    # Through NumPy, because to_pylist() makes a scalar of each first.
    items = records.to_numpy(zero_copy_only=False)
    checksums = [google_crc32c.value(data) for data in items]
    joined = pc.binary_join_element_wise(
        headers.take(pa.array(which)),
        records,
        _fixed(_mask(np.array(checksums, np.uint32))),
        b"",
    )
    offsets = np.frombuffer(joined.buffers()[1], np.int32)
    return joined.buffers()[2].slice(0, int(offsets[len(joined)]))


def _fixed(numbers: npt.NDArray[np.uint32]) -> pa.BinaryArray:
    data = pa.py_buffer(numbers.astype("<u4").tobytes())
    fixed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(4), len(numbers), [None, data]
    )
    return fixed.cast(pa.binary())


def _masked(data: bytes) -> int:
    checksum = np.array([google_crc32c.value(data)], np.uint32)
    return int(_mask(checksum)[0])


def _mask(checksums: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    turned = (checksums >> np.uint32(15)) | (checksums << np.uint32(17))
    return turned + np.uint32(0xA282EAD8)
