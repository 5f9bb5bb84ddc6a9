"""jsonl: values as written, and what no line may hold."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.components.click_log_gen.ingest import (
    Row,
    bytes_of,
    convert_log,
    log_of,
    write_log,
)

FIRST = {"by": "order", "eval": 0.5}


def site_of(rows: list[Row]) -> list[Any]:
    return [row["site"] for row in rows]


def test_one_value_is_one_text_however_it_is_written(tmp_path: Path) -> None:
    values = ["a", 1, 1.0, "1.0", 2**70, True, "2020-01-01", 1e3, "ü", None]
    values += ["1.50", 1.5, 1e-7, float("nan"), "NaN", "true", False, -0.0]
    path = tmp_path / "log.jsonl"
    rows = [{"click": 0, "site": value} for value in values]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    output = convert_log(
        out, log_of(path, "jsonl"), {"site": ("string", None)}, split_by=FIRST
    )
    assert site_of(output.kept) == [
        *("a", "1", "1", "1", str(2**70), "1", "2020-01-01", "1000", "ü", None),
        *("1.50", "1.5", "0.0000001", None, "NaN", "1", "0", "0"),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"click": 1', "not valid JSON: Expecting"),
        (b"[1]", "not valid JSON: not an object"),
        (b"null", "not valid JSON: not an object"),
        (b'{"click": 1} {"click": 0}', "not valid JSON: Extra data"),
        (b'{"click": 1}null', "not valid JSON: Extra data"),
        (b'{"click": 1, "site": "\xff"}', "not UTF-8"),
        (b'{"click": 1, "site": "\\ud800"}', "column site: not UTF-8"),
        (b'{"click": 1, "site": "a\0b"}', "not valid JSON: Invalid control"),
        (b'{"click": 1, "site": {"a": 1}}', "column site: an object"),
        (b'{"click": 1, "site": [["a"]]}', "column site: a list of lists"),
        (b'{"click": 1, "price": true}', "column price: not a number"),
        (b'{"click": 1, "price": Infinity}', "column price: not a finite"),
        (b'{"click": 1, "price": 1e999}', "column price: not a finite"),
        (b'{"click": 7}', "column click: the label is neither 0 nor 1"),
        (b'{"price": 1}', "column click: no label"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "not valid JSON"),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_bad_lines(
    tmp_path: Path, line: bytes, reason: str, alone: bool
) -> None:
    good = b'{"click": 0, "price": NaN, "site": "a\\u00e9"}'
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n".join([line] if alone else [good, line, good]))
    log = log_of(path, "jsonl")
    output = convert_log(tmp_path / "out", log, split_by=FIRST)
    assert site_of(output.kept) == [] if alone else ["aé", "aé"]
    assert [bytes_of(row) for row in output.rejected] == [line]
    assert output.reasons[0].startswith(reason)


def test_a_key_may_be_written_with_escapes(tmp_path: Path) -> None:
    rows = [{"click": 1, "größe": "ü"}, {"click": 0, "größe": "b"}]
    path = write_log(tmp_path / "log", "jsonl", rows)
    assert b"gr\\u00f6" in path.read_bytes()
    columns = {"größe": ("string", None)}
    log = log_of(path, "jsonl")
    output = convert_log(tmp_path / "out", log, columns, split_by=FIRST)
    assert output.column("größe") == ["ü", "b"]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_may_begin_with_a_byte_order_mark(
    tmp_path: Path, zipped: bool
) -> None:
    data = b'\xef\xbb\xbf{"click": 1, "site": "a"}\n\n{"click": 0}'
    path = tmp_path / "log"
    path.write_bytes(gzip.compress(data) if zipped else data)
    log = log_of(path, "jsonl")
    output = convert_log(tmp_path / "out", log, split_by=FIRST)
    assert site_of(output.kept) == ["a", None]


def test_the_last_of_two_equal_keys_counts(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text('{"click": 1, "site": "a", "site": "b"}\n{"click": 1}\n')
    log = log_of(path, "jsonl")
    output = convert_log(tmp_path / "out", log, split_by=FIRST)
    assert site_of(output.kept) == ["b", None]


@pytest.mark.parametrize("odd", [None, {"click": 1, "user": "x"}])
def test_a_dotted_name_is_a_path_into_objects(
    tmp_path: Path, odd: Row | None
) -> None:
    rows: list[Row] = [
        {"click": 1, "user": {"id": "a", "geo": {"lat": 1.5}}, "tags": []},
        {"click": 1, "user": {"id": None, "tags": ["x", "y"]}},
        {"click": 1, "user.id": "b", "user": {"geo": {}}},
        {"click": 1, "user": None},
        {"click": 1},
    ]
    # Among values of one kind, and where each line is read by itself.
    path = write_log(
        tmp_path / "log", "jsonl", rows + [odd] * (odd is not None)
    )
    columns = {
        "user.id": ("string", None),
        "user.geo.lat": ("float", None),
        "user.tags": ("string", "|"),
    }
    log = log_of(path, "jsonl")
    output = convert_log(tmp_path / "out", log, columns, split_by=FIRST)
    assert output.column("user.id")[:5] == ["a", None, "b", None, None]
    assert output.column("user.geo.lat")[:5] == [1.5] + [None] * 4
    assert output.column("user.tags")[:5] == [
        None,
        ["x", "y"],
        None,
        None,
        None,
    ]
    assert output.rejected == []
