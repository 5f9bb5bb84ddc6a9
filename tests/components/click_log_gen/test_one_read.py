"""A log whose times decide is read once, and leaves the files of two reads."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from components.click_log_gen import encoded_rows
from components.click_log_gen.config import log_formats
from components.click_log_gen.files.chunks import Chunk
from components.click_log_gen.formats import log_reader
from tests.components.click_log_gen.ingest import (
    SECONDS,
    Output,
    Row,
    convert_log,
    cut_into,
    log_of,
    write_log,
)

COLUMNS = {"price": ("float", None), "site": ("string", None)}
DRAW = random.Random(5)
ROWS = [
    {
        "click": int(DRAW.random() < 0.3),
        "price": round(DRAW.uniform(0.5, 9), 3) if i % 7 else None,
        "site": f"s{i % 9}",
        "t": DRAW.randrange(10**6),
        "bid": i % 5 + 0.5,
    }
    for i in range(400)
]
AGE: Row = {"half_life": "2d"}
BY_TIME: Row = {"by": "time", "eval": 0.2, "test": 0.1}


def ugly(path: Path, format: str, damage: bool) -> Path:
    """Rows without a time, a label or a number; some that no reader takes."""
    rows: list[Row] = [dict(row) for row in ROWS]
    for number in (3, 90, 200):
        rows[number]["t"] = None
    for number in (4, 91, 201, 399):
        rows[number]["click"] = 7
    if damage and format == "jsonl":
        # The time of such a row counts, though it is no example.
        for number in range(5, 60, 2):
            rows[number] |= {"site": {"a": 1}, "t": 10**6 + number}
    write_log(path, format, rows)
    if damage and format in ("csv", "tsv", "jsonl"):
        lines = path.read_bytes().split(b"\n")
        lines[100:100] = [b"\xff\xfe, no row", b'{"t": 5']
        path.write_bytes(b"\n".join(lines))
    return path


def ingest(folder: Path, log: Path, format: str, **data: Any) -> Output:
    data = {"time": SECONDS, "split_by": BY_TIME} | data
    with cut_into(4000, 1500):
        return convert_log(folder, log_of(log, format), COLUMNS, **data)


@pytest.mark.parametrize("format", ["csv", "jsonl", "avro", "tfrecord"])
@pytest.mark.parametrize(
    ("data", "damage"),
    [
        ({}, True),
        ({"split_by": BY_TIME | {"gap": "1h"}, "weight": "bid"}, True),
        ({"negatives": {"keep": 0.5}, "weight": AGE}, False),
        ({"split_by": {"by": "order", "eval": 0.2}, "weight": AGE}, True),
        ({"split_by": {"by": "hash", "eval": 0.2}, "weight": AGE}, True),
        (
            {
                "split_by": {"by": "hash", "eval": 0.2, "key": "site"},
                "weight": AGE,
            },
            False,
        ),
    ],
)
def test_one_read_leaves_the_files_of_two(
    tmp_path: Path, format: str, data: Row, damage: bool
) -> None:
    log = ugly(tmp_path / f"log.{format}", format, damage)
    once = ingest(tmp_path / "once", log, format, **data)
    kind = type(log_formats.log_format(format))
    with mock.patch.object(kind, "columnar", True):
        twice = ingest(tmp_path / "twice", log, format, **data)
    assert once.counts == twice.counts
    assert once.files() == twice.files()
    assert len(once.kept) > 180
    assert len(once.rejected) >= 7


@pytest.mark.parametrize(
    ("format", "times"), [("csv", 1), ("jsonl", 1), ("parquet", 2)]
)
def test_the_chunks_of_a_time_split_are_read_so_often(
    tmp_path: Path, format: str, times: int
) -> None:
    log = ugly(tmp_path / f"log.{format}", format, damage=False)
    reads: Counter[int] = Counter()
    read = log_reader.read

    def counted(chunk: Chunk, *rest: Any) -> Iterator[Any]:
        reads[chunk.number] += 1
        return read(chunk, *rest)

    with mock.patch.object(log_reader, "read", counted):
        ingest(tmp_path / "out", log, format)
    assert set(reads.values()) == {times}


def test_a_full_disk_is_an_error_of_the_disk(tmp_path: Path) -> None:
    log = ugly(tmp_path / "log.csv", "csv", damage=False)
    writer = encoded_rows.Writer
    with (
        mock.patch.object(
            encoded_rows, "Writer", lambda _, *more: writer("/dev/full", *more)
        ),
        pytest.raises(OSError, match="No space left on device"),
    ):
        ingest(tmp_path / "out", log, "csv")
