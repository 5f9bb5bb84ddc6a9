"""The n-th of very many integers, exactly: sorted files and a narrowing range.

Each file holds some of them, sorted, as little-endian int64. One file at a
time is in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

Values = npt.NDArray[np.int64]

EDGES = 1 << 14  # at least 2; a week in microseconds takes three rounds


def write(path: str, values: Values) -> dict[str, Any]:
    """Writes a file; returns its path, how many values, least and greatest."""
    values = np.sort(values)
    with FileSystems.create(
        path, compression_type=CompressionTypes.UNCOMPRESSED
    ) as stream:
        stream.write(values.astype("<i8").tobytes())
    described = {"path": path, "count": len(values)}
    if len(values):
        described |= {"low": int(values[0]), "high": int(values[-1])}
    return described


def nth(files: Iterable[Mapping[str, Any]], rank: int) -> int:
    """The value that `rank` others come before in the order of all files.

    Args:
        files: what `write` returned.
        rank: from 0 to below the count of all values.
    """
    filled = [file for file in files if file["count"]]
    low = min(int(file["low"]) for file in filled)
    high = max(int(file["high"]) for file in filled)
    while low < high:
        step = (high - low) // EDGES + 1
        edges = np.array([*range(low, high, step), high], np.int64)
        below = np.zeros(len(edges), np.int64)  # values up to each edge
        for file in filled:
            below += np.searchsorted(_read(file["path"]), edges, "right")
        at = int(np.searchsorted(below, rank, "right"))
        low = int(edges[at - 1]) + 1 if at else low
        high = int(edges[at])
    return high


def _read(path: str) -> Values:
    with FileSystems.open(
        path, compression_type=CompressionTypes.UNCOMPRESSED
    ) as stream:
        return np.frombuffer(stream.read(), "<i8")
