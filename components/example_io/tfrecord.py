"""TFRecord files: checked frames read from a stream, and written in bulk.

Format: https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

import google_crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.errors import InputError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_PIECE = 1 << 20


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
