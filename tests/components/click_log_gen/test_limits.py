"""Hostile logs within limits: long lines, bombs, files that change."""

from __future__ import annotations

import gzip
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.files import decompression
from components.click_log_gen.formats import log_reader
from components.click_log_gen.formats.plan import plan
from models.errors import InputError
from tests.components.click_log_gen.ingest import (
    Output,
    bytes_of,
    convert_log,
    cut_into,
    log_of,
    pack,
    write_log,
)
from tests.examples import example

COLUMNS = {"id": ("string", None)}
PACKED = [".gz", ".bz2", ".zst"]
ORDER = {"by": "order", "eval": 0.5}


def rows_of(count: int) -> list[dict[str, Any]]:
    return [{"id": f"row {i}", "click": i % 2} for i in range(count)]


def ingest(path: Path, format: str, **options: Any) -> Output:
    folder = path.parent / f"out{len(list(path.parent.iterdir()))}"
    log = log_of(path, format, **options)
    return convert_log(folder, log, COLUMNS, split_by=ORDER)


def ids(output: Output) -> list[str]:
    return [row["id"] for row in output.kept]


@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("format", ["csv", "jsonl", "tfrecord"])
def test_packed_files_are_read_as_plain_ones(
    tmp_path: Path, format: str, suffix: str
) -> None:
    plain = write_log(tmp_path / "log", format, rows_of(500)).read_bytes()
    path = tmp_path / "packed"  # told by its bytes, not by its name
    path.write_bytes(pack(plain, suffix) * (1 if format == "csv" else 2))
    with cut_into(1000, 300):
        output = ingest(path, format)
    assert ids(output) == [row["id"] for row in rows_of(500)] * (
        1 if format == "csv" else 2
    )


@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("harm", ["cut", "garbage", "flip"])
def test_a_damaged_packed_file_is_an_error_with_its_name(
    tmp_path: Path, suffix: str, harm: str
) -> None:
    path = write_log(tmp_path / f"log{suffix}", "csv", rows_of(3000))
    data = bytearray(path.read_bytes())
    if harm == "cut":
        del data[len(data) * 2 // 3 :]
    elif harm == "garbage":
        data += b"garbage"
    else:
        data[20:24] = b"\xff\x00\xff\x00"
    path.write_bytes(bytes(data))
    name = {".gz": "gzip", ".bz2": "bzip2", ".zst": "zstd"}[suffix]
    with pytest.raises(InputError, match=rf"/log{suffix}: damaged {name}"):
        ingest(path, "csv")


@pytest.mark.parametrize("suffix", PACKED)
def test_a_bomb_is_an_error_that_names_the_limit(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"log{suffix}"
    path.write_bytes(pack(b"id,click\n" + b"a,1\n" * 2_000_000, suffix))
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(decompression, "_SMALL", 1 << 20)
    with pytest.raises(InputError, match=r"log.*max_expansion"):
        ingest(path, "csv")
    log = log_of(path, "csv", max_expansion=100_000)
    source = LogFiles.model_validate(log)
    (chunk,) = plan(source)
    assert log_reader.count(chunk, source) == 2_000_000


@pytest.mark.parametrize(
    ("format", "zipped"),
    [("csv", False), ("tsv", False), ("jsonl", False), ("csv", True)],
)
def test_a_line_of_100_mb_is_rejected_in_little_memory(
    tmp_path: Path, format: str, zipped: bool
) -> None:
    path = write_log(tmp_path / "log", format, rows_of(4))
    lines = path.read_bytes().splitlines(keepends=True)
    lines.insert(3, b"x" * 100_000_000 + b"\r\n")
    start = sum(len(line) for line in lines[:3])
    data = b"".join(lines)
    path.write_bytes(gzip.compress(data, 1) if zipped else data)
    del data, lines
    tracemalloc.start()
    output = ingest(path, format, max_expansion=1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 80_000_000
    assert ids(output) == [row["id"] for row in rows_of(4)]
    (row,) = output.rejected
    assert row["reason"] == "longer than max_line_bytes, 16,777,216"
    assert row["where"] == f"byte {start}"
    assert bytes_of(row) == b"x" * 1024
    assert output.counts["read"] == 5


@pytest.mark.parametrize("sizes", [(100, 3), (3000, 700), (5000, 9999)])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_limit_counts_the_line_without_its_end(
    tmp_path: Path, sizes: tuple[int, int], end: str
) -> None:
    cells = ["a" * n for n in (3, 1998, 1999, 9000, 5)]
    path = tmp_path / "log"
    for mark in ("", "\ufeff"):
        text = end.join(f"{cell},1" for cell in cells)
        path.write_bytes((mark + text).encode())
        with cut_into(*sizes):
            output = ingest(
                path, "csv", columns=["id", "click"], max_line_bytes=2000
            )
        assert ids(output) == [cells[0], cells[1], cells[4]]
        assert [len(bytes_of(row)) for row in output.rejected] == [1024] * 2
        assert output.counts["read"] == 5


def test_a_record_that_is_too_long_is_rejected_alone(tmp_path: Path) -> None:
    rows = rows_of(3)
    rows[1]["id"] = "x" * 5_000_000
    path = write_log(tmp_path / "log", "tfrecord", rows)
    output = ingest(path, "tfrecord", max_line_bytes=1_000_000)
    assert ids(output) == ["row 0", "row 2"]
    (row,) = output.rejected
    assert row["where"] == "row 1"
    assert bytes_of(row) == example(**rows[1])[:1024]


def test_a_record_that_claims_to_be_huge_is_an_error(tmp_path: Path) -> None:
    length = struct.pack("<Q", 2**62)
    crc = google_crc32c.value(length)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    path = tmp_path / "log"
    path.write_bytes(length + struct.pack("<I", masked) + b"x" * 100)
    with pytest.raises(InputError, match="/log: damaged TFRecord"):
        ingest(path, "tfrecord")


def test_a_header_that_is_too_long_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x," * 40_000_000)
    with pytest.raises(InputError, match="/log: the header is longer than"):
        ingest(path, "csv")


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet", "avro"])
def test_ten_thousand_columns_are_no_trouble(
    tmp_path: Path, format: str
) -> None:
    row = {f"c{i}": i for i in range(10_000)} | {"click": 1, "id": "x"}
    path = write_log(tmp_path / "log", format, [row, row])
    columns = {f"c{i}": ("float", None) for i in range(9_900, 10_000)}
    log = log_of(path, format)
    output = convert_log(tmp_path / "out", log, columns)
    assert [row["c9999"] for row in output.kept] == [9999.0, 9999.0]


HARMS = {
    "appended": lambda path: path.write_bytes(path.read_bytes() + b"a,1\n"),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "replaced": lambda path: os.utime(path, (1, 1)),
    "removed": lambda path: path.unlink(),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet", "avro"])
def test_a_file_that_changes_while_it_is_read_is_an_error(
    tmp_path: Path, format: str, harm: str
) -> None:
    path = write_log(tmp_path / "log", format, rows_of(20_000))
    source = LogFiles.model_validate(log_of(path, format))
    chunk = plan(source)[0]
    with pytest.raises(InputError, match="the file changed while it was read"):
        rows = log_reader.read(chunk, source, {"id": "string"})
        with cut_into(10**9, 10_000):
            next(rows)
            HARMS[harm](path)
            for _ in rows:
                pass
    path.touch()
    with pytest.raises(InputError, match="the file changed while it was read"):
        log_reader.count(chunk, source)
