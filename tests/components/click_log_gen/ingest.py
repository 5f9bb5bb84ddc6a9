"""Runs the ingest on small logs, and reads what it wrote without its code."""

from __future__ import annotations

import base64
import bz2
import csv
import gzip
import io
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from components.click_log_gen import stages
from components.click_log_gen.config import log_formats
from components.click_log_gen.config.sections import DataConfig
from components.click_log_gen.files import chunks, spans
from models.config.sequences import SequenceFeature
from tests.examples import example

Row = dict[str, Any]
FORMATS = log_formats.FORMATS.names
KINDS = ("train", "eval", "test", "rejected")
SECONDS = {"column": "t", "format": "seconds"}  # from any start
COLUMNS = {"price": ("float", None), "site": ("string", None)}


def write_log(path: Path, format: str, rows: Sequence[Row]) -> Path:
    """Writes `rows` as other tools would; a name that ends in .gz is zipped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if format == "tfrecord":
        options = "GZIP" if path.suffix == ".gz" else ""
        with tf.io.TFRecordWriter(str(path), options) as writer:
            for row in rows:
                writer.write(example(**row))
        return path
    if format == "parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
        return path
    if format == "avro":
        with path.open("wb") as stream:
            fastavro.writer(stream, avro_schema(rows), rows, sync_interval=500)
        return path
    text = io.StringIO(newline="")
    if format == "jsonl":
        text.writelines(json.dumps(row) + "\n" for row in rows)
    else:
        options = {"csv": {}, "tsv": {"delimiter": "\t", "quoting": 3}}[format]
        writer = csv.writer(text, lineterminator="\n", **options)
        writer.writerow(rows[0])
        writer.writerows(
            ["" if v is None else v for v in row.values()] for row in rows
        )
    path.write_bytes(pack(text.getvalue().encode(), path.suffix))
    return path


def pack(data: bytes, suffix: str) -> bytes:
    """`data` as the tool of a file's suffix packs it; another: as it is."""
    if suffix == ".gz":
        return gzip.compress(data)
    if suffix == ".bz2":
        return bz2.compress(data)
    if suffix == ".zst":
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(data)
        return sink.getvalue().to_pybytes()
    return data


AVRO = {str: "string", int: "long", float: "double", bool: "boolean"}


def avro_schema(rows: Sequence[Row]) -> Row:
    """A schema in which each column has all the types of its values."""
    names = {name: None for row in rows for name in row}
    fields = []
    for name in names:
        kinds = {AVRO[type(r[name])] for r in rows if r.get(name) is not None}
        fields.append({"name": name, "type": ["null", *sorted(kinds)]})
    return {"type": "record", "name": "row", "fields": fields}


def log_of(path: Path | list[str] | str, format: str, **options: Any) -> Row:
    """The section `impressions`; csv and tsv read their header."""
    paths = path if isinstance(path, list) else str(path)
    if format in ("csv", "tsv") and "columns" not in options:
        options.setdefault("header", True)
    return {"path": paths, "format": format, **options}


@dataclass
class Output:
    """Outputs of an ingest."""

    folder: Path
    counts: Row
    train: list[Row] = field(default_factory=list)
    eval: list[Row] = field(default_factory=list)
    test: list[Row] = field(default_factory=list)
    rejected: list[Row] = field(default_factory=list)

    @property
    def kept(self) -> list[Row]:
        return self.train + self.eval + self.test

    def column(self, name: str) -> list[Any]:
        """One feature of all examples; all splits, in order of the shards."""
        return [row[name] for row in self.kept]

    @property
    def reasons(self) -> list[str]:
        return [row["reason"] for row in self.rejected]

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }


def convert_log(
    folder: Path,
    impressions: Row,
    columns: Mapping[str, Any] = COLUMNS,
    label: Any = "click",
    split_by: Row | None = None,
    ranges: Mapping[str, int] | None = None,
    sequences: Sequence[Row] = (),
    train_times: bool = False,
    **data: Any,
) -> Output:
    """The ingest's own steps, chunk by chunk, without Beam."""
    config = DataConfig.model_validate(
        {
            "impressions": impressions,
            "label": label,
            "split": split_by or {"by": "hash", "eval": 0.5},
            **data,
        }
    )
    folders = {name: str(folder / name) for name in KINDS}
    for path in (*folders.values(), folder / "work"):
        Path(path).mkdir(parents=True)
    places = stages.Places(folders, str(folder / "work"))
    made = [SequenceFeature.model_validate(one) for one in sequences]
    resolved, _ = spans.resolved(config)
    days = spans.days(config) if train_times else {}
    outcome = stages.ingest(
        resolved, columns, places, one_by_one, ranges, made, train_times, days
    )
    shutil.rmtree(folder / "work")
    return read_output(folder, outcome.counts)


def one_by_one(
    pieces: Sequence[Any], label: str, work: Any, **arguments: Any
) -> list[Row]:
    """Do as Beam does."""
    results = [work(piece, **arguments) for piece in pieces]
    return json.loads(json.dumps(results))


def read_output(folder: Path, counts: Row) -> Output:
    """Reads the shards with TensorFlow and json."""
    output = Output(folder, counts)
    for name in ("train", "eval", "test"):
        rows = getattr(output, name)
        for path in sorted(folder.rglob(f"*{name}/data_tfrecord-*")):
            # Deprecated, but a tf.data pipeline a file takes 50 ms.
            records = tf.compat.v1.io.tf_record_iterator(str(path))
            rows += [parse(record) for record in records]
    for path in sorted(folder.rglob("rejected-*.jsonl")):
        output.rejected += [json.loads(line) for line in path.open()]
    return output


def parse(record: bytes) -> Row:
    """A tf.Example as name -> value, None where a feature is empty.

    Several values are a list.
    """
    row: Row = {}
    for name, feature in tf.train.Example.FromString(
        record
    ).features.feature.items():
        kind = feature.WhichOneof("kind")
        values = [
            value.decode() if isinstance(value, bytes) else value
            for value in (getattr(feature, kind).value if kind else ())
        ]
        row[name] = values if len(values) > 1 else next(iter(values), None)
    return row


def bytes_of(rejected: Row) -> bytes:
    """The row that was rejected."""
    if "row_base64" in rejected:
        return base64.b64decode(rejected["row_base64"])
    return rejected["row"].encode()


def check_place(rejected: Row) -> None:
    """The bytes at the place that a rejected text row names are the row."""
    data = unpack(Path(rejected["file"]).read_bytes())
    unit, number = rejected["where"].split()
    assert unit == "byte"
    start = int(number)
    row = bytes_of(rejected)
    assert data[start : start + len(row)] == row
    assert start == 0 or data[start - 1 : start] in (b"\n", b"\xbf")
    assert data[start + len(row) :][:1] in (b"\n", b"\r", b"")


def unpack(data: bytes) -> bytes:
    """Undo `pack`."""
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    if data[:3] == b"BZh":
        return bz2.decompress(data)
    if data[:4] == b"\x28\xb5\x2f\xfd":
        stream = pa.CompressedInputStream(pa.BufferReader(data), "zstd")
        return bytes(stream.read())
    return data


def csv_rows(
    lines: Sequence[str], columns: int
) -> list[tuple[str, list[str] | None]]:
    """Each row's text and its cells, or None where it is to be refused.

    By Python's csv module. A line with an open quote is a row together with
    the fewest lines after it with which it is so many strictly quoted cells.
    """
    rows: list[tuple[str, list[str] | None]] = []
    at = 0
    while at < len(lines):
        row = lines[at].removesuffix("\r")
        cells: list[str] | None = None
        if "\r" not in row:
            cells = next(csv.reader([row + "\n"]), [])
        taken = 1
        # A quote left open takes in the end of the line.
        if cells is not None and "\n" in "".join(cells):
            cells = None
            for end in range(at + 2, len(lines) + 1):
                text = "\n".join(lines[at:end]).removesuffix("\r")
                stream = io.StringIO(text, newline="")
                try:
                    found = list(csv.reader(stream, strict=True))
                except csv.Error:
                    continue
                bare = text.replace("\r\n", "")
                if [len(r) for r in found] == [columns] and "\r" not in bare:
                    row, cells, taken = text, found[0], end - at
                break
        at += taken
        if row:
            good = cells is not None and len(cells) == columns
            rows.append((row, cells if good else None))
    return rows


@contextmanager
def fresh_folder() -> Iterator[Path]:
    """A folder for one example of a property."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@contextmanager
def cut_into(chunk: int, block: int) -> Iterator[None]:
    """Chunks and blocks of so many bytes."""
    with (
        mock.patch.object(chunks, "CHUNK_BYTES", chunk),
        mock.patch.object(chunks, "BLOCK_BYTES", block),
    ):
        yield
