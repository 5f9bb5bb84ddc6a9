"""Files of one log that disagree about what a column holds."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import InputError
from tests.components.click_log_gen.ingest import (
    Output,
    convert_log,
    log_of,
    write_log,
)

DAY = datetime.date(2020, 1, 1)


def two(folder: Path, one: Any, other: Any, kind: str) -> Output:
    for name, values in (("a", one), ("b", other)):
        table = pa.table({"click": [0] * len(values), "site": values})
        pq.write_table(table, folder / name)
    log = log_of(f"{folder}/?", "parquet")
    columns = {"site": (kind, None)}
    split = {"by": "order", "eval": 0.5}
    return convert_log(folder / "out", log, columns, split_by=split)


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ([1], [True], "holds true or false, but numbers in"),
        (["x"], [1.5], "holds numbers, but text in"),
        ([1], [DAY], "holds days, but numbers in"),
        ([DAY], [datetime.datetime(2020, 1, 1)], "holds times, but days in"),
        ([datetime.time(1)], [1], "holds numbers, but times of day in"),
        (["x"], [[1]], "holds numbers, but text in"),
    ],
)
def test_a_file_that_disagrees_is_an_error_with_both_names(
    tmp_path: Path, one: Any, other: Any, message: str
) -> None:
    with pytest.raises(InputError) as error:
        two(tmp_path, one, other, "string")
    assert str(error.value) == (
        f"{tmp_path}/b: column 'site' {message} {tmp_path}/a. All files of a"
        " log have to agree"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 2], [3.0, None]),
        (["x"], pa.array(["y"]).dictionary_encode()),
        (["x"], [["y"]]),
        (["x"], pa.nulls(1)),
    ],
)
def test_what_is_the_same_as_text_agrees(
    tmp_path: Path, one: Any, other: Any
) -> None:
    count = len(one) + len(other)
    assert len(two(tmp_path, one, other, "string").kept) == count


def test_numbers_are_parsed_by_the_config(tmp_path: Path) -> None:
    output = two(tmp_path, [1.5], ["2.5", "x"], "float")
    assert output.column("site") == [1.5, 2.5]
    assert output.reasons == ["column site: not a number"]


def test_avro_files_are_compared_too(tmp_path: Path) -> None:
    write_log(tmp_path / "a", "avro", [{"click": 1, "site": "x"}])
    write_log(tmp_path / "b", "avro", [{"click": 1, "site": True}])
    log = log_of(f"{tmp_path}/?", "avro")
    with pytest.raises(InputError, match="/b: column 'site' holds true or"):
        convert_log(tmp_path / "out", log, {"site": ("string", None)})
