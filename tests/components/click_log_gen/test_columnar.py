"""parquet and TFRecord of tf.Example: types, missing columns, bad records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from components.click_log_gen.formats import parquet as parquet_format
from components.click_log_gen.formats import tf_examples
from models.errors import InputError
from tests.components.click_log_gen.ingest import (
    Output,
    Row,
    bytes_of,
    convert_log,
    cut_into,
    log_of,
)
from tests.examples import example

FIRST = {"by": "order", "eval": 0.5}


def site_of(rows: list[Row]) -> list[Any]:
    return [row["site"] for row in rows]


def parquet(path: Path, table: pa.Table, **options: Any) -> Output:
    pq.write_table(table, path / "log.parquet", **options)
    log = log_of(path / "log.parquet", "parquet")
    return convert_log(path / "out", log, split_by=FIRST)


def records(path: Path, *rows: bytes | Row, **options: Any) -> Output:
    with tf.io.TFRecordWriter(str(path / "log")) as writer:
        for row in rows:
            writer.write(row if isinstance(row, bytes) else example(**row))
    log = log_of(path / "log", "tfrecord")
    return convert_log(path / "out", log, split_by=FIRST, **options)


def test_text_survives_the_cuts_between_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Batches are slices of a row group; Arrow 18 garbles some slices.
    monkeypatch.setattr(parquet_format, "BATCH", 3)
    sites = ["a", "", None, "bcd", "e" * 20, None, "f", "g", "", "h"]
    table = pa.table({"click": [0] * 10, "price": [1.0] * 10, "site": sites})
    for group in (10, 4):
        folder = tmp_path / str(group)
        folder.mkdir()
        output = parquet(folder, table, row_group_size=group)
        assert site_of(output.kept) == [site or None for site in sites]


def test_row_groups_are_cut_into_chunks_and_keep_their_row_numbers(
    tmp_path: Path,
) -> None:
    table = pa.table(
        {
            "click": [0, 1, 2, 1, 0, 3],
            "price": [1.0] * 6,
            "site": list("abcdef"),
        }
    )
    with cut_into(1, 1):
        output = parquet(tmp_path, table, row_group_size=2)
    assert len(list((tmp_path / "out").rglob("data_tfrecord-*-of-00003"))) == 3
    assert (site_of(output.train), site_of(output.eval)) == (
        ["a", "b"],
        ["d", "e"],
    )
    assert [row["where"] for row in output.rejected] == ["row 2", "row 5"]
    assert "'site': 'f'" in output.rejected[1]["row"]


def test_other_columns_are_not_read(tmp_path: Path) -> None:
    table = pa.table(
        {"a.b": [{"x": 1}], "price": [1], "click": [1], "site": ["s"]}
    )
    output = parquet(tmp_path, table)
    assert output.kept == [{"label": 1, "price": 1.0, "site": "s"}]


def test_a_missing_parquet_column_is_an_error_with_the_files_name(
    tmp_path: Path,
) -> None:
    table = pa.table({"click": [0, 1], "price": [1.0, 2.0]})
    with pytest.raises(InputError) as error:
        parquet(tmp_path, table)
    assert str(error.value) == (
        f"{tmp_path}/log.parquet: no column 'site'. Its columns: click, price"
    )


def test_a_parquet_column_of_a_hopeless_type_is_an_error(
    tmp_path: Path,
) -> None:
    table = pa.table({"click": [0], "price": [{"x": 1}], "site": ["s"]})
    with pytest.raises(InputError) as error:
        parquet(tmp_path, table)
    assert str(error.value) == (
        f"{tmp_path}/log.parquet: column 'price' holds struct<x: int64>,"
        " which cannot be read as numbers"
    )


@pytest.mark.parametrize("kind", [pa.string(), pa.int64(), pa.float64()])
def test_a_column_of_nulls_is_no_error(tmp_path: Path, kind: Any) -> None:
    nulls = pa.nulls(2, kind)
    table = pa.table({"click": [0, 1], "price": nulls, "site": nulls})
    assert site_of(parquet(tmp_path, table).kept) == [None, None]


def halves(values: list[Any]) -> pa.Array:
    return pa.array([v if v is None else np.float16(v) for v in values])


def test_parquet_of_float16_reads_as_float32(tmp_path: Path) -> None:
    flags, site = halves([0, 1, 7, 1]), halves([1.5, 2, 3, None])
    lists = pa.FixedSizeListArray.from_arrays(halves([0.5, 1, 2, 4]), 1)
    table = pa.table({"click": flags, "price": lists, "site": site})
    output = parquet(tmp_path, table)
    assert site_of(output.kept) == ["1.5", "2", None]
    assert output.column("price") == [0.5, 1.0, 4.0]
    assert output.reasons == ["column click: the label is neither 0 nor 1"]
    assert "'site': 3" in output.rejected[0]["row"]


def test_features_that_a_record_lacks_are_missing(tmp_path: Path) -> None:
    output = records(
        tmp_path,
        {"click": 1, "price": 2.5, "site": "a", "more": [1, 2]},
        {"click": 0},
        {"click": 0, "price": None, "site": []},
    )
    assert [row["price"] for row in output.kept] == [2.5, None, None]
    assert site_of(output.kept) == ["a", None, None]


def test_a_feature_may_change_its_kind_from_record_to_record(
    tmp_path: Path,
) -> None:
    output = records(
        tmp_path,
        {"click": 1, "price": 2, "site": 5, "x": 1},
        {"click": 1.0, "price": 2.5, "site": "a", "x": 1.0},
        {"click": "true", "price": "3", "site": None},
        {"click": 0, "price": [1.5, 2.0], "site": "b"},
        {"click": 0, "price": 0.1, "site": 0.1},
    )
    prices = [row["price"] for row in output.kept]
    assert prices == pytest.approx([2.0, 2.5, 3.0, 0.1])
    assert site_of(output.kept) == ["5", "a", None, "0.1"]
    assert output.reasons == ["column price: several values instead of one"]
    assert output.rejected[0]["where"] == "row 3"


def test_records_that_are_no_examples_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tf_examples, "BATCH", 2)
    good = {"click": 1, "price": 1.0, "site": "a"}
    bad = [b"no example", b"\x0a\xff"]
    output = records(tmp_path, good, bad[0], good, good, bad[1])
    assert site_of(output.kept) == ["a"] * 3
    assert [row["where"] for row in output.rejected] == ["row 1", "row 4"]
    assert [bytes_of(row) for row in output.rejected] == bad
    assert output.reasons == ["not a tf.Example"] * 2
    assert output.counts["read"] == 5


def test_an_empty_record_is_an_example_without_a_label(tmp_path: Path) -> None:
    output = records(tmp_path, b"", {"click": 1, "price": 1.0, "site": "a"})
    assert output.reasons == ["column click: no label"]


def test_a_list_has_its_values_and_a_lone_one_is_a_text(
    tmp_path: Path,
) -> None:
    output = records(
        tmp_path,
        {"click": 1, "tags": ["a", "b"]},
        {"click": 1, "tags": "c"},
        {"click": 1, "tags": None},
        {"click": 1, "tags": "c|d"},
        {"click": 1, "tags": ["c|d", "e"]},
        columns={"tags": ("string", "|")},
    )
    assert output.column("tags") == [
        ["a", "b"],
        "c",
        None,
        ["c", "d"],
        ["c|d", "e"],
    ]
