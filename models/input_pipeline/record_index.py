"""Where in TFRecord files the rows are: an index of blocks of them."""

from __future__ import annotations

import gzip
import os
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.errors import InputError

ROWS = 2048  # a block
_FRAME = 16  # bytes of a record besides its data
_PIECE = 1 << 24
_LENGTH = struct.Struct("<Q")
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Blocks:
    """Blocks of consecutive rows, in the order of the files.

    files: paths that are read, none of them compressed.
    file, offset, rows: of each block, which file, its first byte, its rows.
    folder: of what was unpacked; it goes when this object does.
    """

    files: tuple[str, ...]
    file: Ints
    offset: Ints
    rows: Ints
    folder: tempfile.TemporaryDirectory[str] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def total(self) -> int:
        """Rows of all blocks."""
        return int(self.rows.sum())


def index(patterns: Sequence[str]) -> Blocks:
    """The blocks of TFRecord files.

    A gzipped file cannot be read from its middle, so it is unpacked into a
    temporary folder.

    Args:
        patterns: paths or globs; gzipped where the name ends in .gz.

    Raises:
        InputError: no such file, or one that is damaged.
    """
    paths = []
    for pattern in patterns:
        found = sorted(tf.io.gfile.glob(pattern))
        if not found:
            raise InputError(f"there are no examples: no file {pattern!r}")
        paths += found
    folder = None
    files, blocks = [], []
    for which, path in enumerate(paths):
        target = path
        if path.endswith(".gz"):
            folder = folder or tempfile.TemporaryDirectory(prefix="lionctr-")
            target = os.path.join(folder.name, str(which))
            _unpack(path, target)
        files.append(target)
        blocks += [(which, *block) for block in _scan(target, path)]
    number, offset, rows = np.array(blocks, np.int64).reshape(-1, 3).T
    return Blocks(tuple(files), number, offset, rows, folder)


def _unpack(path: str, target: str) -> None:
    with (
        tf.io.gfile.GFile(path, "rb") as packed,
        Path(target).open("wb") as unpacked,
    ):
        try:
            with gzip.open(packed) as stream:
                while data := stream.read(_PIECE):
                    unpacked.write(data)
        except (EOFError, OSError) as error:
            raise InputError(f"{path} cannot be unpacked: {error}") from error


def _scan(path: str, name: str) -> list[tuple[int, int]]:
    """First byte and rows of each block of a file."""
    starts, rows, position = [], 0, 0
    unpack = _LENGTH.unpack_from
    with tf.io.gfile.GFile(path, "rb") as file:
        size = file.size()
        while position < size:
            file.seek(position)
            piece = file.read(_PIECE)
            if len(piece) < _FRAME:
                break
            at, last = 0, len(piece) - _LENGTH.size
            while at <= last:
                if rows % ROWS == 0:
                    starts.append(position + at)
                rows += 1
                at += unpack(piece, at)[0] + _FRAME
            position += at
    if position != size:
        raise InputError(
            f"{name} is damaged: record {rows:,} does not end where the file"
            f" of {size:,} bytes does"
        )
    last = rows - ROWS * (len(starts) - 1)
    return [
        (start, last if i + 1 == len(starts) else ROWS)
        for i, start in enumerate(starts)
    ]
