"""The files that one chunk fills: examples of each split, rejected rows."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import IO, cast

import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.click_log_gen.columns.rows import Rejected
from components.example_io import tfrecord


class Shards:
    """One file a folder, made when first needed.

    folders: split name, or "rejected" -> path or URI.
    number, of: which shard of how many; it names the files.
    stage: before the number in the name of rejected rows' files.
    """

    def __init__(
        self, folders: Mapping[str, str], number: int, of: int, stage: str = ""
    ) -> None:
        self._folders = folders
        self._stage = stage
        self._shard = f"{number:05d}-of-{of:05d}"
        self._stack = ExitStack()
        self._files: dict[str, IO[bytes]] = {}

    def __enter__(self) -> Shards:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def write(self, split: str, records: pa.BinaryArray) -> None:
        """Adds serialized tf.Examples, as TFRecord."""
        if len(records):
            stream = self._open(split, f"data_tfrecord-{self._shard}")
            stream.write(tfrecord.frame(records))

    def reject(self, rows: Iterable[Rejected]) -> None:
        """Adds rows with where they are and why, one JSON object each."""
        for row in rows:
            entry = {"file": row.path, "where": row.where, "reason": row.reason}
            try:
                entry["row"] = row.row.decode()
            except UnicodeDecodeError:
                entry["row_base64"] = base64.b64encode(row.row).decode()
            name = f"rejected-{self._stage}{self._shard}.jsonl"
            stream = self._open("rejected", name)
            stream.write(json.dumps(entry).encode() + b"\n")

    def _open(self, folder: str, name: str) -> IO[bytes]:
        if folder not in self._files:
            stream = FileSystems.create(
                os.path.join(self._folders[folder], name),
                compression_type=CompressionTypes.UNCOMPRESSED,
            )
            self._files[folder] = cast(IO[bytes], stream)
            self._stack.enter_context(stream)
        return self._files[folder]
