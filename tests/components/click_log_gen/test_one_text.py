"""One value is one category, whatever format and type it is written in."""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example as case
from hypothesis import given, settings
from hypothesis import strategies as st

from components.click_log_gen.columns import value_text as values
from components.click_log_gen.columns.rows import Column, Verdicts, typed
from models.errors import InputError
from tests.components.click_log_gen.ingest import (
    FORMATS,
    Row,
    convert_log,
    log_of,
    write_log,
)

FIRST = {"by": "order", "eval": 0.5}
TEXT = {"x": ("string", None)}
D = Decimal


def texts_of(path: Path, format: str, columns: Row = TEXT, **log: Any) -> Any:
    out = path.parent / f"out-{len(list(path.parent.iterdir()))}"
    read = convert_log(
        out, log_of(path, format, **log), columns, split_by=FIRST
    )
    assert read.rejected == []
    return read.column("x")


def parquet(folder: Path, array: pa.Array, **options: Any) -> Path:
    path = folder / f"{len(list(folder.iterdir()))}.parquet"
    labels = pa.array([i % 2 for i in range(len(array))])
    table = pa.table({"click": labels, "x": array})
    pq.write_table(table, path, **options)
    return path


@pytest.mark.parametrize("format", FORMATS)
def test_flags_and_whole_numbers_are_one_category(
    tmp_path: Path, format: str
) -> None:
    wanted: list[str] = []
    for number, value in enumerate([1, 1.0, True, "True", "true", "1.0", "1"]):
        rows = [{"click": 0, "x": value}, {"click": 1, "x": value}]
        path = write_log(tmp_path / f"log{number}", format, rows)
        wanted += texts_of(path, format)
    assert wanted == ["1"] * 14


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_no_whole_number_stays_as_it_is_written(
    tmp_path: Path, format: str
) -> None:
    given = ["1.50", "007", "1e5", "10.10", "v1.0", "01.0", "truE", " 1.0"]
    given += ["1.0.0", ".0", "-.0", "+1.0", "rue", "١.0", "10E7"]
    rows = [{"click": i % 2, "x": value} for i, value in enumerate(given)]
    path = write_log(tmp_path / "log", format, rows)
    assert texts_of(path, format) == given


def test_items_of_a_list_are_values_too(tmp_path: Path) -> None:
    rows = [{"click": 0, "x": "1.0|true|1.50|"}, {"click": 1, "x": "a"}]
    columns = {"x": ("string", "|")}
    path = write_log(tmp_path / "log", "csv", rows)
    assert texts_of(path, "csv", columns) == [["1", "1", "1.50"], "a"]
    lists = pa.array([[1.0, 1e20], [0.5]])
    wanted = [["1", "1" + 20 * "0"], "0.5"]
    assert texts_of(parquet(tmp_path, lists), "parquet", columns) == wanted
    stamps = pa.array([[0], [1500]], pa.list_(pa.timestamp("ms")))
    wanted = ["1970-01-01 00:00:00", "1970-01-01 00:00:01.5"]
    assert texts_of(parquet(tmp_path, stamps), "parquet", columns) == wanted


def test_a_number_is_one_text_in_every_physical_type(tmp_path: Path) -> None:
    kinds = [pa.int8(), pa.int64(), pa.uint64(), pa.float32(), pa.float64()]
    kinds += [pa.decimal128(20, 0), pa.decimal128(10, 2), pa.decimal256(50, 4)]
    for number, kind in enumerate(kinds):
        values = [7, 100]
        array = pa.array(
            [D(v) for v in values] if pa.types.is_decimal(kind) else values,
            kind,
        )
        pq.write_table(
            pa.table({"click": [0, 1], "x": array}), tmp_path / f"{number}.day"
        )
    found = texts_of(tmp_path / "*.day", "parquet")
    assert found == ["7", "100"] * len(kinds)


NOON = datetime.datetime(2024, 1, 31, 12, 0, 0, 250_000)


def test_an_instant_is_one_text_in_every_unit(tmp_path: Path) -> None:
    second = NOON.replace(microsecond=0)
    found = []
    for zone in (None, "UTC", "Europe/Berlin"):
        for unit in ("s", "ms", "us", "ns"):
            array = pa.array([second] * 2, pa.timestamp(unit))
            array = array.cast(pa.int64()).cast(pa.timestamp(unit, zone))
            found += texts_of(parquet(tmp_path, array), "parquet")
    old = pa.array([second] * 2, pa.timestamp("ns"))
    path = parquet(tmp_path, old, use_deprecated_int96_timestamps=True)
    found += texts_of(path, "parquet")
    assert set(found) == {"2024-01-31 12:00:00"}
    exact = pa.array([NOON] * 2, pa.timestamp("us"))
    exact_text = "2024-01-31 12:00:00.25"
    assert texts_of(parquet(tmp_path, exact), "parquet") == [exact_text] * 2


@pytest.mark.parametrize("year", [1600, 1816, 2300, 9999])
def test_int96_has_all_years(tmp_path: Path, year: int) -> None:
    time = datetime.datetime(year, 12, 31)
    array = pa.array([time] * 2, pa.timestamp("us"))
    path = parquet(tmp_path, array, use_deprecated_int96_timestamps=True)
    assert texts_of(path, "parquet") == [str(time)] * 2


IDS = [uuid.UUID(int=i * 2**100 + i) for i in range(1, 5)]


@pytest.mark.parametrize("store_schema", [True, False])
@pytest.mark.parametrize("make", [pa.uuid, lambda: pa.binary(16)])
def test_uuids_are_text(tmp_path: Path, make: Any, store_schema: bool) -> None:
    raw = pa.array([None, *(i.bytes for i in IDS)], pa.binary(16))
    array = raw.cast(make()) if make is not pa.uuid else raw.cast(pa.uuid())
    path = parquet(tmp_path, array, store_schema=store_schema)
    assert texts_of(path, "parquet") == [None, *map(str, IDS)]
    # The same as a log of text, beside which it may stand.
    other = parquet(tmp_path, pa.array([None, *map(str, IDS)]))
    assert texts_of(other, "parquet") == [None, *map(str, IDS)]
    both = texts_of(tmp_path / "*.parquet", "parquet")
    assert both == [None, *map(str, IDS)] * 2


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    columns = [pa.array([0, 1]), pa.array([1, 0]), pa.array(["a", "b"])]
    path = tmp_path / "log"
    pq.write_table(pa.table(columns, ["click", "click", "x"]), path)
    with pytest.raises(InputError, match="/log: column 'click' is named twice"):
        texts_of(path, "parquet")


@pytest.mark.parametrize("kind", ["float", "int", "string"])
@pytest.mark.parametrize(
    "array",
    [
        pa.array([1, 2], pa.duration("ms")),
        pa.array([1, 2], pa.time64("us")),
        pa.array([1, 2], pa.time32("s")),
        pa.array([1, 2], pa.timestamp("us")),
        pa.array([1, 2], pa.date32()),
    ],
    ids=lambda array: str(array.type),
)
def test_times_are_no_numbers(
    tmp_path: Path, array: pa.Array, kind: str
) -> None:
    path = parquet(tmp_path, array)
    columns = {"x": (kind, None)}
    if kind == "string" and not pa.types.is_duration(array.type):
        first, second = texts_of(path, "parquet", columns)
        assert first != second
        assert not first.isdigit()
        return
    wanted = "text" if kind == "string" else "numbers"
    message = rf"column 'x' holds .*, which cannot be read as {wanted}"
    with pytest.raises(InputError, match=message):
        texts_of(path, "parquet", columns)


def avro(path: Path, kind: Any, values: list[Any]) -> Path:
    fields = [{"name": "click", "type": "int"}, {"name": "x", "type": kind}]
    schema = {"type": "record", "name": "row", "fields": fields}
    rows = [{"click": i % 2, "x": value} for i, value in enumerate(values)]
    with path.open("wb") as stream:
        fastavro.writer(stream, schema, rows)
    return path


def logical(kind: str, means: str, **more: Any) -> Row:
    return {"type": kind, "logicalType": means, **more}


DAY = datetime.date(2024, 1, 31)
CLOCK = datetime.time(23, 59, 1, 500_000)
NOON_UTC = NOON.replace(tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        (logical("bytes", "decimal", precision=9, scale=2), D("7.00"), "7"),
        (logical("bytes", "decimal", precision=9, scale=2), D("1.5"), "1.5"),
        (
            logical(
                "fixed", "decimal", name="f", size=16, precision=30, scale=4
            ),
            D("-7.25"),
            "-7.25",
        ),
        (logical("string", "uuid"), IDS[0], str(IDS[0])),
        ({"type": "fixed", "name": "u", "size": 16}, IDS[0].bytes, str(IDS[0])),
        (logical("int", "date"), DAY, "2024-01-31"),
        (logical("int", "time-millis"), CLOCK, "23:59:01.5"),
        (logical("long", "time-micros"), CLOCK, "23:59:01.5"),
        (logical("long", "timestamp-millis"), NOON_UTC, str(NOON)[:-4]),
        (logical("long", "timestamp-micros"), NOON_UTC, str(NOON)[:-4]),
        (logical("long", "local-timestamp-millis"), NOON, str(NOON)[:-4]),
        ("float", 0.1, "0.1"),
        ("double", 0.1, "0.1"),
        ("double", 3.0, "3"),
        ("boolean", True, "1"),
        (["int", "double"], 3.0, "3"),
        (["null", "boolean", "string"], False, "0"),
    ],
    ids=str,
)
def test_avro_values_have_the_same_texts(
    tmp_path: Path, kind: Any, value: Any, wanted: str
) -> None:
    path = avro(tmp_path / "log", kind, [value, value])
    assert texts_of(path, "avro") == [wanted, wanted]


@pytest.mark.parametrize("number", ["float", "int"])
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (logical("int", "time-millis"), CLOCK),
        (logical("long", "time-micros"), CLOCK),
        (logical("long", "timestamp-micros"), NOON_UTC),
        (logical("fixed", "duration", name="d", size=12), b"x" * 12),
    ],
    ids=str,
)
def test_avro_times_are_no_numbers(
    tmp_path: Path, kind: Any, value: Any, number: str
) -> None:
    path = avro(tmp_path / "log", kind, [value, value])
    with pytest.raises(InputError, match=r"/log: column 'x' (holds|is a dur)"):
        texts_of(path, "avro", {"x": (number, None)})


@pytest.mark.parametrize("mixed", [False, True])
def test_words_for_missing_are_compared_with_numbers_too(
    tmp_path: Path, mixed: bool
) -> None:
    # In a block of values of one kind, and where each line is read by itself.
    rows: list[Row] = [{"click": 0, "x": -1}, {"click": 1, "x": 2}]
    rows += [{"click": 1, "x": "2"}] * mixed
    path = write_log(tmp_path / "log", "jsonl", rows)
    for kind, two in (("string", "2"), ("float", 2.0), ("int", 2)):
        columns = {"x": (kind, None)}
        found = texts_of(path, "jsonl", columns, null_values=["-1"])
        assert found == [None, two] + [two] * mixed


NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(lambda i: (i, pa.int64())),
    st.floats(allow_nan=False, allow_infinity=False).map(
        lambda f: (f, pa.float64())
    ),
    st.integers(-(10**6), 10**6).map(lambda i: (i / 8, pa.float32())),
    st.decimals(-(10**9), 10**9, places=4, allow_nan=False).map(
        lambda d: (d, pa.decimal128(20, 4))
    ),
    st.booleans().map(lambda b: (b, pa.bool_())),
)


@settings(deadline=None, max_examples=500)
@given(st.lists(NUMBERS, min_size=1, max_size=3))
@case([(1e22, pa.float64())])
@case([(5e-324, pa.float64())])
@case([(2.0**63, pa.float64())])
def test_a_number_is_its_plain_decimal(numbers: list[Any]) -> None:
    for value, kind in numbers:
        (text,) = read(pa.array([value], kind))
        assert text == values.category(value)
        assert "e" not in text.lower()
        exact = D(repr(value)) if isinstance(value, float) else D(value)
        if isinstance(value, float) and value.is_integer():
            exact = D(int(value))
        assert D(text) == exact
        assert text == text.strip() and not text.startswith("+")
        assert text != "-0" and ("." not in text or text[-1] not in "0.")


def read(array: pa.Array) -> list[Any]:
    """The texts of `array`, alone and in the middle of a longer one."""
    longer = pa.concat_arrays([array, array, array])
    longer = longer.slice(len(array), len(array))
    found = [
        typed(part, "string", Column("c"), Verdicts.none(len(array)))
        for part in (array, longer)
    ]
    assert found[0].to_pylist() == found[1].to_pylist()
    return list(found[0].to_pylist())


WORDS = st.sampled_from(
    [
        "true",
        "True",
        "FALSE",
        "1.0",
        "-0.0",
        "10.00",
        "1.50",
        "a.0",
        "",
        "1.0\n",
    ]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.one_of(WORDS, st.text(max_size=6), st.none()), max_size=20))
def test_texts_of_a_column_are_those_of_its_values(texts: list[Any]) -> None:
    wanted = [values.category(text) for text in texts]
    assert read(pa.array(texts, pa.string())) == wanted
    # Doing it twice changes nothing.
    assert [values.category(text) for text in wanted] == wanted


@settings(deadline=None, max_examples=300)
@given(
    st.datetimes(),
    st.sampled_from([pa.timestamp("us"), pa.timestamp("us", "Asia/Tokyo")]),
)
def test_a_time_is_what_python_shows(
    time: datetime.datetime, kind: pa.DataType
) -> None:
    utc = time.replace(tzinfo=datetime.UTC)
    micros = (utc - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // (
        datetime.timedelta(microseconds=1)
    )
    (text,) = read(pa.array([micros]).cast(kind))
    assert text == values.category(utc) == values.category(time)
    assert datetime.datetime.fromisoformat(text) == time


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.integers(-(2**70), 2**70),
            st.floats(),
            st.booleans(),
            st.none(),
            st.text(max_size=4),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_json_and_csv_are_read_as_python_reads_them(items: list[Any]) -> None:
    from tests.components.click_log_gen.ingest import fresh_folder

    rows = [{"click": i % 2, "x": value} for i, value in enumerate(items)]
    wanted = [
        values.category(row["x"])
        for row in map(json.loads, map(json.dumps, rows))
        if not (isinstance(row["x"], float) and math.isinf(row["x"]))
    ]
    with fresh_folder() as folder:
        path = folder / "log.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        finite = [
            text
            for text, value in zip(all_texts(path, "jsonl"), items, strict=True)
            if not (isinstance(value, float) and math.isinf(value))
        ]
        assert finite == wanted
        path = folder / "log.csv"
        stream = io.StringIO(newline="")
        csv.writer(stream).writerows([["click", "x"]])
        texts = [str(v) for v in items if not isinstance(v, float)]
        texts = [t for t in texts if not set(t) & {"\r", "\n"}]
        csv.writer(stream).writerows([0, text] for text in texts)
        if texts:
            path.write_text(stream.getvalue(), newline="")
            assert all_texts(path, "csv") == list(map(values.category, texts))


def all_texts(path: Path, format: str) -> list[Any]:
    out = path.parent / f"out-{format}"
    output = convert_log(out, log_of(path, format), TEXT, split_by=FIRST)
    assert output.rejected == []
    return output.column("x")


def test_a_key_joins_whatever_type_each_log_has(tmp_path: Path) -> None:
    shown = pa.table(
        {
            "id": pa.array([1.0, 2.0, 3.0, 4.0]),
            "t": pa.array([NOON] * 4, pa.timestamp("ms")),
            "x": ["a", "b", "c", "d"],
        }
    )
    pq.write_table(shown, tmp_path / "shown")
    rows = [{"id": i, "t": str(NOON)} for i in ("1", "3.0", "4.00")]
    clicks = write_log(tmp_path / "clicks", "csv", rows)
    output = convert_log(
        tmp_path / "out",
        log_of(tmp_path / "shown", "parquet"),
        TEXT,
        label=None,
        split_by=FIRST,
        time="t",
        clicks=log_of(clicks, "csv") | {"key": "id", "until": "2025-01-01"},
    )
    labels = {row["x"]: row["label"] for row in output.kept}
    assert labels == {"a": 1, "b": 0, "c": 1, "d": 1}
