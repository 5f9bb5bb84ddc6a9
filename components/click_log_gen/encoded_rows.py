"""Encoded rows, and the file that keeps those of a chunk for a second pass.

The file is an Arrow IPC stream, not compressed: it is read once, soon.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.arrow_masks import Mask
from components.click_log_gen.columns.event_time import Times
from components.click_log_gen.columns.weights import Weights
from components.click_log_gen.config.sections import DataConfig
from components.click_log_gen.files.chunks import open_raw
from components.click_log_gen.splitting.split import Sides


@dataclass(frozen=True)
class EncodedRows:
    """Good rows, but for what other rows decide: the cut, the newest row.

    features: of each row, as `encode_features` gives them.
    positive: the label is 1.
    sampled: the row is trained on even if it is negative.
    times: when the rows happened, if asked.
    sides: the split of each row; None: the times tell.
    weights: how much each row counts; None: as all others, or by age.
    """

    features: pa.BinaryArray
    positive: Mask
    sampled: Mask
    times: Times | None = None
    sides: Sides | None = None
    weights: Weights | None = None

    def slice(self, start: int, stop: int) -> EncodedRows:
        """Some of the rows, by their numbers from 0 on."""
        some: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            values = getattr(self, field.name)
            some[field.name] = None if values is None else values[start:stop]
        return EncodedRows(**some)


class Writer:
    """Writes the encoded rows of a chunk to a file."""

    def __init__(self, path: str, data: DataConfig, times: bool) -> None:
        self._schema = _schema(data, times)
        self._file = FileSystems.create(
            path, compression_type=CompressionTypes.UNCOMPRESSED
        )
        self._stream = pa.ipc.new_stream(self._file, self._schema)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            if kind is None:
                self._stream.close()
        finally:
            self._file.close()

    def add(self, rows: EncodedRows) -> None:
        """Adds some rows."""
        columns = [
            pa.array(getattr(rows, field.name), field.type)
            for field in self._schema
        ]
        self._stream.write_batch(pa.record_batch(columns, schema=self._schema))


def read(path: str) -> Iterator[EncodedRows]:
    """The rows of a file, as many at a time as were added."""
    with open_raw(path) as file, pa.ipc.open_stream(file) as stream:
        for batch in stream:
            features, *columns = batch.columns
            names = batch.schema.names[1:]
            arrays = [c.to_numpy(zero_copy_only=False) for c in columns]
            yield EncodedRows(features, **dict(zip(names, arrays, strict=True)))


def _schema(data: DataConfig, times: bool) -> pa.Schema:
    """Columns of a file: those that the config has a use for."""
    fields = [
        ("features", pa.binary()),
        ("positive", pa.bool_()),
        ("sampled", pa.bool_()),
    ]
    if times:
        fields.append(("times", pa.int64()))
    if data.split.by != "time":
        fields.append(("sides", pa.int8()))
    if data.weight is not None and not data.weight.by_time:
        fields.append(("weights", pa.float32()))
    return pa.schema(fields)
