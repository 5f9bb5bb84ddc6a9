"""Lists of every format, on their way from a log to tf.Examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.components.click_log_gen.ingest import (
    Output,
    Row,
    convert_log,
    log_of,
    write_log,
)

# A value of the log -> the values in the tf.Example. An empty one keeps a lone
# value with the separator from being read as a text.
REAL: list[tuple[Any, list[str]]] = [
    (["a", "b"], ["a", "b"]),
    (["a|b", "c"], ["a|b", "c"]),
    (["a|b"], ["a|b", ""]),
    (["c"], ["c"]),
    ([], []),
    (None, []),
    ([None, "x", ""], ["x"]),
    (["b", "a", "b"], ["b", "a", "b"]),
    (["True", "4.0", "n/a"], ["1", "4"]),
    (["n/a"], []),
]
TEXT: list[tuple[Any, list[str]]] = [
    ("a|b", ["a", "b"]),
    ("c", ["c"]),
    ("", []),
    ("|a||b|", ["a", "b"]),
    ("b|a|b", ["b", "a", "b"]),
    ("TRUE|4.0|1.50", ["1", "4", "1.50"]),
    ("n/a", []),
    ("n/a|a", ["a"]),
]


def ingest(folder: Path, path: Path, format: str) -> Output:
    return convert_log(
        folder / "out",
        log_of(path, format, null_values=["n/a"]),
        {"tags": ("string", "|")},
        split_by={"by": "order", "eval": 0.1},
    )


def values(output: Output) -> list[list[str]]:
    found = [row["tags"] for row in output.kept]
    return [
        v if isinstance(v, list) else [] if v is None else [v] for v in found
    ]


def rows(cases: list[tuple[Any, list[str]]]) -> list[Row]:
    return [{"click": i % 2, "tags": v} for i, (v, _) in enumerate(cases)]


def write(path: Path, format: str, data: list[Row]) -> None:
    """A column of lists, whatever its values."""
    if format == "parquet":
        columns = {"click": [row["click"] for row in data]}
        lists = pa.array([row["tags"] for row in data], pa.list_(pa.string()))
        pq.write_table(pa.table({**columns, "tags": lists}), path)
    elif format == "avro":
        item = {"type": "array", "items": ["null", "string"]}
        fields = [
            {"name": "click", "type": "long"},
            {"name": "tags", "type": ["null", item]},
        ]
        schema = {"type": "record", "name": "row", "fields": fields}
        with path.open("wb") as stream:
            fastavro.writer(stream, schema, data)
    else:
        write_log(path, format, data)


@pytest.mark.parametrize("format", ["jsonl", "parquet", "avro"])
def test_a_real_list_is_never_split(tmp_path: Path, format: str) -> None:
    write(tmp_path / "log", format, rows(REAL))
    output = ingest(tmp_path, tmp_path / "log", format)
    assert output.rejected == []
    assert values(output) == [wanted for _, wanted in REAL]


@pytest.mark.parametrize(
    "format", ["csv", "tsv", "jsonl", "parquet", "avro", "tfrecord"]
)
def test_a_text_is_split(tmp_path: Path, format: str) -> None:
    write_log(tmp_path / "log", format, rows(TEXT))
    output = ingest(tmp_path, tmp_path / "log", format)
    assert output.rejected == []
    assert values(output) == [wanted for _, wanted in TEXT]


def test_of_an_example_one_value_is_a_text(tmp_path: Path) -> None:
    cases = [*TEXT, (["a|b", "c"], ["a|b", "c"]), (["a|b", ""], ["a|b", ""])]
    write_log(tmp_path / "log", "tfrecord", rows(cases))
    output = ingest(tmp_path, tmp_path / "log", "tfrecord")
    assert values(output) == [wanted for _, wanted in cases]


@pytest.mark.parametrize("format", ["jsonl", "avro"])
def test_lists_and_texts_of_one_column_are_told_apart(
    tmp_path: Path, format: str
) -> None:
    cases = [case for pair in zip(REAL, TEXT, strict=False) for case in pair]
    data = rows(cases)
    if format == "jsonl":
        write_log(tmp_path / "log", format, data)
    else:
        item = {"type": "array", "items": ["null", "string"]}
        fields = [
            {"name": "click", "type": "long"},
            {"name": "tags", "type": ["null", "string", item]},
        ]
        schema = {"type": "record", "name": "row", "fields": fields}
        with (tmp_path / "log").open("wb") as stream:
            fastavro.writer(stream, schema, data)
    output = ingest(tmp_path, tmp_path / "log", format)
    assert output.rejected == []
    assert values(output) == [wanted for _, wanted in cases]


def test_a_list_in_a_column_without_lists_is_refused_alone(
    tmp_path: Path,
) -> None:
    data = rows([(["a"], []), (["a", "b"], []), ("c", []), ([None, "d"], [])])
    path = tmp_path / "log"
    path.write_text("".join(json.dumps(row) + "\n" for row in data))
    output = convert_log(
        tmp_path / "out",
        log_of(path, "jsonl"),
        {"tags": ("string", None)},
        split_by={"by": "order", "eval": 0.4},
    )
    assert output.column("tags") == ["a", "c", "d"]
    assert output.reasons == ["column tags: several values instead of one"]
