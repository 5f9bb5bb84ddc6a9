"""Avro: types, codecs, blocks cut into chunks, damage, hostile schemas."""

from __future__ import annotations

import datetime
import decimal
import functools
import io
import random
from pathlib import Path
from typing import Any

import fastavro
import pytest

from components.click_log_gen.formats import avro
from models.errors import InputError
from tests.components.click_log_gen.ingest import (
    Output,
    Row,
    convert_log,
    cut_into,
    log_of,
)

FIRST = {"by": "order", "eval": 0.5}
NONE: Any = ["null", "string"]


def schema(**types: Any) -> Row:
    fields = [{"name": name, "type": kind} for name, kind in types.items()]
    return {"type": "record", "name": "row", "fields": fields}


def write(path: Path, kinds: Row, rows: list[Row], **options: Any) -> Path:
    with path.open("wb") as stream:
        fastavro.writer(stream, kinds, rows, **options)
    return path


def read(path: Path, columns: Row, name: str = "out", **data: Any) -> Output:
    data.setdefault("split_by", FIRST)
    log = log_of(path, "avro")
    return convert_log(path.parent / name, log, columns, **data)


def strings(*names: str) -> Row:
    return dict.fromkeys(names, ("string", None))


def test_types_are_read_as_they_are_meant(tmp_path: Path) -> None:
    user = schema(id="string", age=["null", "int"]) | {"name": "user"}
    kinds = schema(
        click="boolean",
        price=["null", "float"],
        n="long",
        code={"type": "enum", "name": "code", "symbols": ["A", "B"]},
        raw="bytes",
        tags={"type": "array", "items": "string"},
        cost={
            "type": "bytes",
            "logicalType": "decimal",
            "precision": 6,
            "scale": 2,
        },
        mixed=["null", "int", "string", "double"],
        user=user,
        other=["null", "user"],
    )
    rows = [
        {
            "click": True,
            "price": 1.5,
            "n": 2**60,
            "code": "B",
            "raw": b"x",
            "tags": ["a", "b"],
            "cost": decimal.Decimal("3.25"),
            "mixed": 7,
            "user": {"id": "u", "age": 3},
            "other": {"id": "v", "age": None},
        },
        {
            "click": False,
            "price": None,
            "n": 0,
            "code": "A",
            "raw": b"\xff",
            "tags": [],
            "cost": decimal.Decimal("0"),
            "mixed": "s",
            "user": {"id": "w", "age": None},
            "other": None,
        },
    ]
    path = write(tmp_path / "log", kinds, [rows[0], rows[1] | {"raw": b"y"}])
    columns = strings("code", "raw", "mixed", "user.id", "other.id") | {
        "price": ("float", None),
        "n": ("int", None),
        "tags": ("string", "|"),
        "cost": ("float", None),
        "user.age": ("int", None),
    }
    first, second = read(path, columns).kept
    assert first == {
        "label": 1,
        "code": "B",
        "raw": "x",
        "mixed": "7",
        "user.id": "u",
        "other.id": "v",
        "price": 1.5,
        "n": 2**60,
        "tags": ["a", "b"],
        "cost": 3.25,
        "user.age": 3,
    }
    assert second["other.id"] is second["price"] is second["tags"] is None
    assert (second["mixed"], second["user.age"]) == ("s", None)
    path = write(tmp_path / "log", kinds, rows)
    output = read(path, columns, "again")
    assert output.reasons == ["column raw: not UTF-8"]
    assert output.rejected[0]["where"].endswith(" record 1")


@pytest.mark.parametrize(
    "logical", ["timestamp-millis", "timestamp-micros", "date"]
)
def test_times_are_times(tmp_path: Path, logical: str) -> None:
    number = "int" if logical == "date" else "long"
    kinds = schema(click="int", t={"type": number, "logicalType": logical})
    day = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    times = [day + datetime.timedelta(days=i) for i in (3, 1, 2, 0)]
    rows = [
        {"click": 0, "t": t.date() if logical == "date" else t} for t in times
    ]
    path = write(tmp_path / "log", kinds, rows)
    split = {"by": "time", "eval": 0.5}
    output = read(path, {}, split_by=split, time="t")
    assert (output.counts["train"], output.counts["eval"]) == (2, 2)


@pytest.mark.parametrize("unit", ["millis", "micros"])
@pytest.mark.parametrize(("local", "hour"), [("", 12), ("local-", 7)])
def test_a_zone_shifts_local_times_alone(
    tmp_path: Path, local: str, hour: int, unit: str
) -> None:
    kind = {"type": "long", "logicalType": f"{local}timestamp-{unit}"}
    noon = datetime.datetime(2020, 1, 1, 12)
    if not local:
        noon = noon.replace(tzinfo=datetime.UTC)
    rows = [{"click": i, "t": noon} for i in (0, 1)]
    path = write(tmp_path / "log", schema(click="int", t=kind), rows)
    time = {"column": "t", "zone": "Asia/Karachi"}  # five hours ahead
    split = {"by": "time", "eval": 0.5}
    output = read(path, strings("t"), split_by=split, time=time)
    shown = f"2020-01-01T{hour:02d}:00:00Z"
    times = output.counts["times"].values()
    assert {at for span in times for at in span.values()} == {shown}
    assert {row["t"] for row in output.kept} == {"2020-01-01 12:00:00"}


CODECS = ["null", "deflate", "bzip2", "xz"]


@pytest.mark.parametrize("codec", CODECS)
def test_blocks_are_cut_into_chunks(tmp_path: Path, codec: str) -> None:
    kinds = schema(click="int", id="string")
    rows = [{"click": i % 2, "id": f"row {i}"} for i in range(5000)]
    path = write(tmp_path / "log", kinds, rows, codec=codec, sync_interval=1000)
    with cut_into(3000, 10):
        output = read(path, strings("id"))
    assert [row["id"] for row in output.kept] == [row["id"] for row in rows]
    files = list((tmp_path / "out").rglob("data_tfrecord-*"))
    assert len(files) > 3


def test_snappy_and_zstandard_need_nothing_else(tmp_path: Path) -> None:
    import zlib

    import pyarrow as pa

    kinds = schema(click="int", id="string")
    path = write(tmp_path / "log", kinds, [], sync_marker=b"m" * 16)
    body = b"".join(
        _encoded(kinds, {"click": 1, "id": f"{i}"}) for i in range(50)
    )
    checksum = zlib.crc32(body).to_bytes(4, "big")
    for codec, packed in (
        ("snappy", pa.compress(body, "snappy", asbytes=True) + checksum),
        ("zstandard", pa.compress(body, "zstd", asbytes=True)),
    ):
        head = path.read_bytes().replace(
            b"\x14avro.codec\x08null",
            b"\x14avro.codec" + bytes([2 * len(codec)]) + codec.encode(),
        )
        block = avro._zigzag(50) + avro._zigzag(len(packed)) + packed
        file = tmp_path / codec
        file.write_bytes(head + block + b"m" * 16)
        output = read(file, strings("id"), f"out-{codec}")
        assert output.column("id") == [f"{i}" for i in range(50)]


def _encoded(kinds: Row, row: Row) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, kinds, row)
    return stream.getvalue()


def test_a_missing_column_is_an_error_with_the_files_name(
    tmp_path: Path,
) -> None:
    kinds = schema(
        click="int",
        user=schema(id="int") | {"name": "u"},
        m={"type": "map", "values": "int"},
    )
    path = write(
        tmp_path / "log", kinds, [{"click": 1, "user": {"id": 1}, "m": {}}]
    )
    for name, message in (
        ("site", "no column 'site'. Its columns: click, user, m"),
        ("user.name", "no column 'user.name'"),
        ("user", "column 'user' is a record"),
        ("m", "column 'm' is a map"),
    ):
        with pytest.raises(InputError, match=r"/log: ") as error:
            read(path, strings(name), f"out {name}")
        assert message in str(error.value)


@pytest.mark.parametrize(
    "hostile",
    [
        (
            '{"type": "record", "name": "n", "fields": [{"name": "click",'
            ' "type": ["null", "n"]}]}'
        ),
        (
            '{"type": "record", "name": "n", "fields": [{"name": "click",'
            ' "type": {"type": "array", "items": "null"}}]}'
        ),
        '{"type": "record", "name": "n", "fields": []}',
        '"int"',
        # Twice the one before, sixty times.
        functools.reduce(
            lambda inner, i: (
                f'{{"type": "record", "name": "n{i}", "fields": [{{"name":'
                f' "click", "type": {inner}}}, {{"name": "b", "type":'
                f' "{"n" * (i > 0)}{i - 1 if i else "null"}"}}]}}'
            ),
            range(60),
            '"null"',
        ),
        "[" * 100_000,
        '{"type": "record"}',
        "\0",
    ],
)
def test_a_hostile_schema_is_an_error(tmp_path: Path, hostile: str) -> None:
    text = hostile.encode()
    head = b"Obj\x01\x02\x16avro.schema" + avro._zigzag(len(text)) + text
    # A block of a thousand times a thousand records in eight bytes.
    block = avro._zigzag(10**6) + avro._zigzag(8) + b"\x02" * 8
    path = tmp_path / "log"
    path.write_bytes(head + b"\0" + b"m" * 16 + block + b"m" * 16)
    with pytest.raises(InputError, match=r"/log: .*(Avro|column)"):
        read(path, strings("click"))


def test_a_bomb_in_a_block_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(avro, "_BLOCK_BYTES", 1 << 20)
    kinds = schema(click="int", id="string")
    rows = [{"click": 1, "id": "x" * (1 << 21)}]
    for codec in CODECS:
        path = write(tmp_path / codec, kinds, rows, codec=codec)
        with pytest.raises(InputError, match="block at byte"):
            read(path, strings("id"), f"out {codec}")


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_file_is_an_error_or_read_whole(
    tmp_path: Path, seed: int
) -> None:
    random_ = random.Random(seed)
    kinds = schema(click="int", id="string", n=["null", "long"])
    rows = [{"click": i % 2, "id": f"row {i}", "n": i} for i in range(200)]
    codec = random_.choice(CODECS)
    path = write(tmp_path / "log", kinds, rows, codec=codec, sync_interval=400)
    data = bytearray(path.read_bytes())
    for _ in range(random_.choice([1, 1, 3, 20])):
        at = random_.randrange(len(data))
        how = random_.randrange(4)
        if how == 0:
            data[at] = random_.randrange(256)
        elif how == 1:
            del data[at : at + random_.choice([1, 10, 10**6])]
            data += b"" if data else b"x"
        elif how == 2:
            data[at:at] = data[at : at + random_.choice([1, 100])]
        else:
            data[at:at] = random_.randbytes(3)
    path.write_bytes(bytes(data))
    with cut_into(random_.choice([300, 10**6]), 100):
        try:
            output = read(path, strings("id") | {"n": ("int", None)})
        except InputError as error:
            assert f"{path}: " in str(error) or "empty" in str(error)
        else:
            read_ = output.counts["read"]
            assert len(output.kept) + len(output.rejected) == read_
