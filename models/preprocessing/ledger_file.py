"""Ledgers as files: beside Transform's graph, and in a training's state.

A file is a line of JSON, with the checksum of what follows, and an Arrow
stream. An admitted value is a row of it without a count.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import asdict
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from models.preprocessing.admission import SCHEMA, Ledger, Tally
from models.preprocessing.counted_times import NONE, Intervals

FOLDER = "ledgers"  # beside Transform's graph, and in a training's state
TALLIES = "tallies.json"  # table -> its `Tally`
_KIND = "lionctr-ledger-1"
_PLAIN = CompressionTypes.UNCOMPRESSED


class DamagedError(Exception):
    """A file that is no ledger, or not what was written."""


def path_of(folder: str, name: str) -> str:
    """File of the ledger of a vocabulary."""
    return os.path.join(folder, f"{name}.arrow")


def times(folder: str, name: str) -> Intervals:
    """Times whose rows a ledger has counted; none where there is no file."""
    path = path_of(folder, name)
    if not FileSystems.exists(path):
        return NONE
    with FileSystems.open(path, compression_type=_PLAIN) as stream:
        return _times(_head(stream.readline()))


def read(folder: str, name: str) -> Ledger:
    """The ledger of a vocabulary; an empty one where there is no file.

    Raises:
        DamagedError: it is not what was written.
    """
    path = path_of(folder, name)
    if not FileSystems.exists(path):
        return Ledger()
    with FileSystems.open(path, compression_type=_PLAIN) as stream:
        first, _, data = stream.read().partition(b"\n")
    head = _head(first)
    if head["crc32c"] != google_crc32c.value(data):
        raise DamagedError("it has a wrong checksum")
    table = pa.ipc.open_stream(data).read_all()
    counted = table["count"].is_valid()
    return Ledger(
        head["day"],
        table.filter(counted),
        table.filter(pc.invert(counted)).select(["value", "day"]),
        _times(head),
    )


def write(folder: str, name: str, ledger: Ledger, tally: Tally) -> None:
    """Writes the ledger of a vocabulary, and the tally beside it."""
    none = pa.nulls(ledger.admitted.num_rows, pa.int64())
    admitted = ledger.admitted.append_column(SCHEMA.field("count"), none)
    stream = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(stream, SCHEMA, options=options) as writer:
        writer.write_table(pa.concat_tables([ledger.counts, admitted]))
    data = stream.getvalue()
    head = {
        "kind": _KIND,
        "day": ledger.day,
        "times": ledger.times.tolist(),
        "crc32c": google_crc32c.value(data),
    }
    _write(path_of(folder, name), json.dumps(head).encode() + b"\n" + data)
    _write(_tally_path(folder, name), json.dumps(asdict(tally)).encode())


def tally(folder: str, name: str) -> dict[str, Any]:
    """The tally beside a ledger."""
    with FileSystems.open(_tally_path(folder, name)) as stream:
        found: dict[str, Any] = json.loads(stream.read())
    return found


def tallies(transform: str) -> dict[str, Any]:
    """Table -> its tally, of a transform; none where no table has a ledger."""
    path = os.path.join(transform, FOLDER, TALLIES)
    if not tf.io.gfile.exists(path):
        return {}
    with tf.io.gfile.GFile(path) as file:
        found: dict[str, Any] = json.loads(file.read())
    return found


def _tally_path(folder: str, name: str) -> str:
    return os.path.join(folder, f"{name}.json")


def _head(line: bytes) -> dict[str, Any]:
    try:
        head = json.loads(line)
    except ValueError:
        head = None
    if not isinstance(head, dict) or head.get("kind") != _KIND:
        raise DamagedError("it is no ledger of this version")
    return head


def _times(head: dict[str, Any]) -> Intervals:
    return np.array(head["times"], np.int64).reshape(-1, 2)


def _write(path: str, data: bytes) -> None:
    with FileSystems.create(path, compression_type=_PLAIN) as stream:
        stream.write(data)
