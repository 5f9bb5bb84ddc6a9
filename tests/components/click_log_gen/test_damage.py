"""Damaged and hostile logs: a clear error, or each row exactly once."""

from __future__ import annotations

import gzip
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from models.errors import InputError
from tests.components.click_log_gen.ingest import (
    FORMATS,
    Output,
    Row,
    bytes_of,
    check_place,
    convert_log,
    csv_rows,
    cut_into,
    log_of,
    pack,
    write_log,
)
from tests.examples import example

PACKED = ["", "", ".gz", ".bz2", ".zst"]
COLUMNS = {
    "id": ("string", None),
    "price": ("float", None),
    "slot": ("int", None),
    "tags": ("string", "|"),
}


def rows_of(count: int) -> list[Row]:
    return [
        {
            "id": f"row {i}",
            "click": i % 2,
            "price": i / 4,
            "slot": i,
            "tags": "a|b",
            "t": f"2020-01-01T00:00:{i % 60:02d}Z",
        }
        for i in range(count)
    ]


def ingest(path: Path, format: str, name: str = "out", **kw: Any) -> Output:
    kw.setdefault("split_by", {"by": "order", "eval": 0.5})
    log = log_of(path, format, **kw.pop("log", {}))
    return convert_log(path.parent / name, log, COLUMNS, **kw)


@pytest.mark.parametrize("format", ["csv", "tsv", "jsonl", "tfrecord"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("by", ["order", "time", "hash"])
def test_a_truncated_gzip_is_an_error_with_the_files_name(
    tmp_path: Path, format: str, share: float, by: str
) -> None:
    path = write_log(tmp_path / "log.gz", format, rows_of(2000))
    data = path.read_bytes()
    path.write_bytes(data[: max(10, int(share * len(data)))])
    split: Row = {"by": by, "eval": 0.5}
    with pytest.raises(InputError, match=r"log\.gz: damaged gzip"):
        ingest(path, format, split_by=split, time="t")


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_garbage_after_a_gzip_is_an_error(tmp_path: Path, format: str) -> None:
    path = write_log(tmp_path / "log.gz", format, rows_of(20))
    data = path.read_bytes()
    path.write_bytes(data + b"garbage")
    with pytest.raises(InputError, match="damaged gzip"):
        ingest(path, format)
    # Two gzip files one after the other are one, as for gunzip.
    path.write_bytes(data + gzip.compress(b""))
    assert len(ingest(path, format, "again").kept) == 20


@pytest.mark.parametrize("keep", [3, 100, -1, -8, -30])
def test_a_truncated_parquet_is_an_error_with_the_files_name(
    tmp_path: Path, keep: int
) -> None:
    path = write_log(tmp_path / "log.parquet", "parquet", rows_of(500))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"log\.parquet: not a parquet file"):
        ingest(path, "parquet")


@pytest.mark.parametrize("format", ["parquet", "tfrecord"])
def test_another_kind_of_file_is_an_error_with_the_files_name(
    tmp_path: Path, format: str
) -> None:
    path = write_log(tmp_path / "log", "csv", rows_of(5))
    with pytest.raises(InputError, match=r"/log: (not a|damaged)"):
        ingest(path, format)


@pytest.mark.parametrize("seed", range(25))
def test_a_damaged_parquet_is_an_error_or_read_whole(
    tmp_path: Path, seed: int
) -> None:
    random_ = random.Random(seed)
    path = write_log(tmp_path / "log.parquet", "parquet", rows_of(300))
    data = bytearray(path.read_bytes())
    for _ in range(random_.choice([1, 1, 5, 50])):
        data[random_.randrange(len(data))] = random_.randrange(256)
    path.write_bytes(bytes(data))
    try:
        output = ingest(path, "parquet")
    except InputError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert len(output.kept) + len(output.rejected) == 300


def corrupt(data: bytes, random_: random.Random) -> bytes:
    """A few bytes changed, dropped, doubled or put in."""
    for _ in range(random_.choice([1, 3, 10, 40])):
        at = random_.randrange(len(data) + 1)
        size = random_.choice([1, 1, 1, 2, 10])
        new = random_.choice(
            [
                random_.randbytes(size),
                random_.choice([b'"', b"\n", b"\r", b",", b"\t", b"\0", b"{"]),
                b"",
                data[at : at + size] * 2,
                b"\xff",
                b"\xef\xbb\xbf",
            ]
        )
        data = data[:at] + new + data[at + size :]
    return data


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("format", ["csv", "tsv", "jsonl"])
def test_each_line_of_a_corrupted_text_is_somewhere_exactly_once(
    tmp_path: Path, format: str, seed: int
) -> None:
    random_ = random.Random(f"{format} {seed}")
    rows = rows_of(random_.choice([1, 40]))
    path = write_log(tmp_path / "log", format, rows)
    data = path.read_bytes()
    options: Row = {}
    if format != "jsonl":
        head, _, data = data.partition(b"\n")
        names = head.decode().split("," if format == "csv" else "\t")
        options = {"columns": names}
    whole = dict(
        zip(data.splitlines(), [row["id"] for row in rows], strict=True)
    )
    data = corrupt(data, random_)
    path.write_bytes(pack(data, PACKED[seed % len(PACKED)]))
    split = random_.choice(
        [
            {"by": "order", "eval": 0.5},
            {"by": "time", "eval": 0.5},
            {"by": "hash", "eval": 0.5, "key": "id"},
            {"by": "hash", "eval": 0.5},
        ]
    )
    with cut_into(random_.randrange(60, 500), random_.randrange(1, 500)):
        output = ingest(path, format, split_by=split, time="t", log=options)
    data = data.removeprefix(b"\xef\xbb\xbf")
    found = [line.removesuffix(b"\r") for line in data.split(b"\n")]
    if format == "csv":
        text = data.decode("latin-1").split("\n")
        rows_found = csv_rows(text, len(rows[0]))
        found = [row.encode("latin-1") for row, _ in rows_found]
    found = [row for row in found if row]
    assert output.counts.get("read", 0) == len(found)
    assert len(output.kept) + len(output.rejected) == len(found)
    for row in output.rejected:
        check_place(row)
    places = {row["where"] for row in output.rejected}
    assert len(places) == len(output.rejected)
    assert not Counter(map(bytes_of, output.rejected)) - Counter(found)
    intact = Counter(whole[row] for row in found if row in whole)
    assert not intact - Counter(row["id"] for row in output.kept)


@pytest.mark.parametrize("seed", range(150))
def test_a_damaged_file_is_an_error_with_its_name_or_accounted_for(
    tmp_path: Path, seed: int
) -> None:
    random_ = random.Random(seed)
    format = FORMATS[seed % len(FORMATS)]
    suffix = "" if format in ("parquet", "avro") else random_.choice(PACKED)
    plain = write_log(tmp_path / "log", format, rows_of(60)).read_bytes()
    data = corrupt(pack(plain, suffix), random_)
    if random_.random() < 0.2:
        data = data[: random_.randrange(len(data))]
    path = tmp_path / "damaged"
    path.write_bytes(data)
    split: Row = {"by": random_.choice(["order", "time", "hash"]), "eval": 0.5}
    with cut_into(random_.randrange(60, 5000), random_.randrange(1, 500)):
        try:
            output = ingest(path, format, split_by=split, time="t")
        except InputError as error:
            assert str(error).startswith(f"{path}: ")
            return
    read = output.counts["read"]
    assert len(output.kept) + len(output.rejected) == read
    places = {row["where"] for row in output.rejected}
    assert len(places) == len(output.rejected)
    if format == "parquet":
        assert read == 60


@pytest.mark.parametrize("seed", range(40))
def test_each_corrupted_record_is_somewhere_exactly_once(
    tmp_path: Path, seed: int
) -> None:
    random_ = random.Random(seed)
    records = [example(**row) for row in rows_of(30)]
    for _ in range(random_.choice([1, 5, 20])):
        index = random_.randrange(len(records))
        records[index] = corrupt(records[index], random_)
    path = tmp_path / "log"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    output = ingest(path, "tfrecord", time="t")
    assert output.counts["read"] == 30
    assert len(output.kept) + len(output.rejected) == 30
    places = [int(row["where"].removeprefix("row ")) for row in output.rejected]
    assert places == sorted(set(places))
    kept = [i for i in range(30) if i not in places]
    for index, row in zip(kept, output.kept, strict=True):
        given = tf.train.Example.FromString(records[index]).features.feature
        if "id" in given and given["id"].bytes_list.value:
            assert row["id"].encode() == given["id"].bytes_list.value[0]


@pytest.mark.parametrize("format", FORMATS)
def test_a_row_of_ten_megabytes_is_a_row(tmp_path: Path, format: str) -> None:
    rows = rows_of(3)
    rows[1]["id"] = "x" * 10_000_000
    path = write_log(tmp_path / "log", format, rows)
    with cut_into(1_000_000, 300_000):
        output = ingest(path, format)
    assert [row["id"] for row in output.kept] == [row["id"] for row in rows]


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_a_thousand_columns_are_no_trouble(tmp_path: Path, format: str) -> None:
    row = {f"c{i}": i for i in range(1000)} | {"click": 1}
    path = write_log(tmp_path / "log", format, [row, row])
    columns = {f"c{i}": ("float", None) for i in range(1000)}
    log = log_of(path, format)
    output = convert_log(tmp_path / "out", log, columns)
    assert [r["c999"] for r in output.kept] == [999.0, 999.0]
