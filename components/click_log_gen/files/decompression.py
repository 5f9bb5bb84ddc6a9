"""Compressed files as streams: damage is an error, and so is a bomb."""

from __future__ import annotations

import gzip
import zlib
from typing import IO

import pyarrow as pa

from models.errors import InputError

HEAD_BYTES = 10  # of a file, that tell its codec
_SMALL = 64 << 20  # bytes that any file may unpack to
_BZIP2 = (b"1AY&SY", b"\x17rE8P\x90")  # a first block, or none at all


def codec_of(head: bytes) -> str:
    """gzip, zstd or bzip2 by a file's first HEAD_BYTES; "" if it is plain."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    # A skippable frame, with which parallel zstd begins, will do.
    if head.startswith(b"\x28\xb5\x2f\xfd") or (
        head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5
    ):
        return "zstd"
    if head.startswith(b"BZh") and head[4:10] in _BZIP2:
        return "bzip2"
    return ""


class Unpacked:
    """The plain bytes of a compressed file.

    Args:
        raw: its own bytes.
        codec: as `codec_of` says.
        size: of the file in bytes.
        expansion: to how many times its size it may unpack.
    """

    def __init__(
        self, raw: IO[bytes], codec: str, size: int, expansion: int
    ) -> None:
        self._codec = codec
        self._stream = (
            gzip.GzipFile(fileobj=raw)
            if codec == "gzip"
            else pa.CompressedInputStream(
                pa.PythonFile(raw, "r"), {"bzip2": "bz2"}.get(codec, codec)
            )
        )
        self._expansion = expansion
        self._left = max(_SMALL, expansion * size)

    def read(self, size: int) -> bytes:
        """The next bytes, fewer than `size` only at the end.

        Raises:
            InputError: the file is damaged or too large.
        """
        try:
            data: bytes = self._stream.read(size)
        except (EOFError, OSError, zlib.error, pa.ArrowException) as error:
            raise InputError(
                f"damaged {self._codec} ({error}). Nothing was ingested;"
                " replace the file or take it out of the log's `path`"
            ) from error
        self._left -= len(data)
        if self._left < 0:
            raise InputError(
                f"the {self._codec} unpacks to more than {self._expansion}"
                " times its size. If it is no bomb, raise the log's"
                " `max_expansion`"
            )
        return data
