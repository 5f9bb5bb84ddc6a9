"""Files that are no log: one line says what each is and what is accepted."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path

import pyarrow as pa
import pytest
import tensorflow as tf

from models.errors import InputError
from tests.components.click_log_gen.ingest import (
    FORMATS,
    Row,
    convert_log,
    fresh_folder,
    log_of,
    pack,
    write_log,
)
from tests.examples import example

FIRST = {"by": "order", "eval": 0.5}
ROWS: list[Row] = [
    {"click": i % 2, "price": i / 2, "site": f"s{i}"} for i in range(50)
]


def text() -> bytes:
    lines = ["click,price,site"]
    lines += [",".join(map(str, row.values())) for row in ROWS]
    return "\n".join(lines).encode()


def error_of(path: Path, format: str) -> str:
    with fresh_folder() as out, pytest.raises(InputError) as error:
        convert_log(out / "out", log_of(path, format), split_by=FIRST)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def zipped(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log.csv", data)
    return stream.getvalue()


def tarred(data: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo("log.csv")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def framed_snappy(data: bytes) -> bytes:
    # https://github.com/google/snappy/blob/main/framing_format.txt
    body = b"\0" * 4 + pa.compress(data, "snappy", asbytes=True)
    head = b"\xff\x06\x00\x00sNaPpY"
    return head + b"\x00" + len(body).to_bytes(3, "little") + body


KINDS = {
    "a zip archive": zipped,
    "xz": lzma.compress,
    "snappy": framed_snappy,
    "lz4": lambda data: pa.compress(data, "lz4", asbytes=True),
    "zlib": zlib.compress,
    "a tar archive": tarred,
    "UTF-16 (iconv -f UTF-16 -t UTF-8 makes it UTF-8)": lambda data: (
        data.decode().encode("utf-16")
    ),
    "UTF-16 ": lambda data: data.decode().encode("utf-16-le"),
    "UTF-16": lambda data: b"\xfe\xff" + data.decode().encode("utf-16-be"),
    "text whose lines end in \\r alone": lambda data: data.replace(
        b"\n", b"\r"
    ),
}


@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
def test_what_a_file_is_and_what_is_accepted(
    tmp_path: Path, what: str, packed: str
) -> None:
    path = tmp_path / "log"
    path.write_bytes(pack(KINDS[what](text()), packed))
    message = error_of(path, "csv")
    assert message.startswith(f"this is {what}")
    accepted = "; accepted: text in UTF-8, alone or packed with gzip, zstd or"
    assert accepted in message


@pytest.mark.parametrize("format", ["tsv", "jsonl"])
def test_returns_alone_are_named_in_other_formats_too(
    tmp_path: Path, format: str
) -> None:
    path = write_log(tmp_path / "log", format, ROWS)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r"))
    assert "lines end in \\r alone" in error_of(path, format)


@pytest.mark.parametrize("level", [1, 6, 9])
def test_tfrecords_of_zlib_are_named(tmp_path: Path, level: int) -> None:
    plain = write_log(tmp_path / "plain", "tfrecord", ROWS).read_bytes()
    path = tmp_path / "log"
    path.write_bytes(zlib.compress(plain, level))
    message = error_of(path, "tfrecord")
    assert message.startswith("this is zlib; accepted: TFRecords, alone or ")
    with tf.io.TFRecordWriter(str(path), "ZLIB") as writer:
        writer.write(example(**ROWS[0]))
    assert error_of(path, "tfrecord") == message


def test_snappy_without_a_frame_is_told_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "part-0.csv.snappy"
    path.write_bytes(pa.compress(text() * 50, "snappy", asbytes=True))
    assert error_of(path, "csv").startswith("this is snappy; ")
    path.write_bytes(text())  # only its name is wrong
    output = convert_log(tmp_path / "out2", log_of(path, "csv"))
    assert len(output.kept) == len(ROWS)


@pytest.mark.parametrize("format", ["parquet", "avro"])
@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, zipped])
def test_packed_columns_are_named(
    tmp_path: Path, format: str, pack: object
) -> None:
    assert callable(pack)
    path = write_log(tmp_path / "log", format, ROWS)
    path.write_bytes(pack(path.read_bytes()))
    message = error_of(path, format)
    assert message.startswith("this is ")
    assert "packed inside it" in message


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("other", ["parquet", "avro"])
def test_a_file_of_another_format_is_named(
    tmp_path: Path, format: str, other: str
) -> None:
    if format == other:
        return
    path = write_log(tmp_path / "log", other, ROWS)
    name = {"parquet": "a parquet file", "avro": "an Avro file"}[other]
    assert error_of(path, format).startswith(f"this is {name}; accepted: ")


@pytest.mark.parametrize("size", [0x8B1F, 0x0178, 0x9C78, 0x5A42])
def test_the_length_of_a_record_is_no_mark(tmp_path: Path, size: int) -> None:
    # The first bytes of the file are its first record's length: here those
    # that gzip, zlib and bzip2 begin with.
    row: Row = {"click": 1, "site": ""}
    row["site"] = "x" * (size - len(example(**row)))
    for _ in range(8):  # lengths have lengths
        row["site"] = row["site"][
            : len(row["site"]) - len(example(**row)) + size
        ]
    assert len(example(**row)) == size
    path = write_log(tmp_path / "log", "tfrecord", [row, row])
    assert path.read_bytes()[:2] == size.to_bytes(2, "little")
    assert (
        len(convert_log(tmp_path / "out", log_of(path, "tfrecord")).kept) == 2
    )


@pytest.mark.parametrize(
    "cell", ["PK\x03\x04", "ORC", "PAR1", "Obj\x01", "x\x01", "Rar!\x1a\x07"]
)
def test_text_that_begins_as_an_archive_is_text(
    tmp_path: Path, cell: str
) -> None:
    path = tmp_path / "log"
    path.write_text(f"{cell},1\nb,0\n")
    log = log_of(path, "csv", columns=["site", "click"])
    columns = {"site": ("string", None)}
    output = convert_log(tmp_path / "out", log, columns, split_by=FIRST)
    assert output.column("site") == [cell, "b"]
