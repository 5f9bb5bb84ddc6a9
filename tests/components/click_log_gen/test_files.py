"""Folders as Spark, Hive and NVTabular write them, and odd names of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.config.sections import DataConfig, Spans
from components.click_log_gen.files import log_paths
from components.click_log_gen.files.spans import resolve
from models.errors import InputError
from tests.components.click_log_gen.ingest import (
    FORMATS,
    Output,
    Row,
    convert_log,
    fresh_folder,
    log_of,
    write_log,
)
from tests.components.click_log_gen.object_store import ObjectStore

FIRST = {"by": "order", "eval": 0.5}


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x\n")


def found(pattern: Any, folder: Path) -> list[str]:
    paths = [path for path, _, _ in log_paths.find((str(pattern),))]
    return [str(Path(path).relative_to(folder)) for path in paths]


SPARK = (
    "_SUCCESS",
    "._SUCCESS.crc",
    ".part-00000-a.csv.crc",
    "part-00000-a.csv",
    "part-00001-a.csv",
    "_temporary/0/task/part-00000-b.csv",
    ".hive-staging_hive_2024/part-9.csv",
    "part-00002-a.csv._COPYING_",
)


def test_a_folder_of_spark_means_its_parts(tmp_path: Path) -> None:
    touch(tmp_path / "log", *SPARK)
    parts = ["log/part-00000-a.csv", "log/part-00001-a.csv"]
    assert found(tmp_path / "log", tmp_path) == parts
    assert found(f"{tmp_path}/log/", tmp_path) == parts
    assert found(tmp_path / "l*", tmp_path) == parts
    assert found(f"{tmp_path}/log/**", tmp_path)[:2] == parts
    assert found(f"{tmp_path}/log/part*.csv", tmp_path) == parts


def test_a_folder_of_nvtabular_means_its_parquet(tmp_path: Path) -> None:
    touch(tmp_path, "part_0.parquet", "_metadata", "_file_list.txt")
    touch(tmp_path, "_metadata.json", "schema.pbtxt", ".merlin/schema.json")
    assert found(tmp_path, tmp_path) == ["part_0.parquet"]


def test_a_hidden_name_that_is_asked_for_is_read(tmp_path: Path) -> None:
    touch(tmp_path, "_a/x", ".b/x", "c/_x", "c/.y", "_k=1/x")
    assert found(tmp_path, tmp_path) == ["_k=1/x"]
    assert found(f"{tmp_path}/_a", tmp_path) == ["_a/x"]
    assert found(f"{tmp_path}/_*/x", tmp_path) == ["_a/x", "_k=1/x"]
    assert found(f"{tmp_path}/.*/x", tmp_path) == [".b/x"]
    assert found(f"{tmp_path}/c/_*", tmp_path) == ["c/_x"]
    assert found(f"{tmp_path}/c/.y", tmp_path) == ["c/.y"]
    with pytest.raises(InputError, match=r"no file matches .*names that begin"):
        found(f"{tmp_path}/c/*", tmp_path)
    with pytest.raises(InputError, match=r"/c' is a folder without files; na"):
        found(f"{tmp_path}/c", tmp_path)


def test_folders_that_a_glob_matches_are_read_where_it_matches_no_file(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "dt=1/a/x", "dt=2/x", "dt=2/_tmp/x", "other/x")
    assert found(f"{tmp_path}/dt=*", tmp_path) == ["dt=1/a/x", "dt=2/x"]
    touch(tmp_path, "dt=3")
    assert found(f"{tmp_path}/dt=*", tmp_path) == ["dt=3"]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    stored: dict[str, bytes] = {}
    monkeypatch.setattr(ObjectStore, "files", stored)
    return stored


def test_a_folder_of_an_object_store_means_its_files(
    store: dict[str, bytes],
) -> None:
    for name in ("dt=1/_SUCCESS", "dt=1/part-0", "dt=2/part-0", "x"):
        store[f"memory://b/log/{name}"] = b"x\n"
    wanted = ["memory://b/log/dt=1/part-0", "memory://b/log/dt=2/part-0"]
    for pattern in ("memory://b/log/dt=*", "memory://b/log/dt=*/"):
        paths = [path for path, _, _ in log_paths.find((pattern,))]
        assert paths == wanted
    paths = [path for path, _, _ in log_paths.find(("memory://b/log",))]
    assert paths == [*wanted, "memory://b/log/x"]


def test_a_name_with_brackets_is_itself_where_it_exists(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "run[1]/a[2].csv", "run1/a2.csv", "run[1]/a2.csv")
    assert found(f"{tmp_path}/run[1]/a[2].csv", tmp_path) == ["run[1]/a[2].csv"]
    assert found(f"{tmp_path}/run[1]/*.csv", tmp_path) == [
        "run[1]/a2.csv",
        "run[1]/a[2].csv",
    ]
    assert found(f"{tmp_path}/run[1]", tmp_path) == [
        "run[1]/a2.csv",
        "run[1]/a[2].csv",
    ]
    touch(tmp_path, "day1.csv", "day2.csv")
    assert found(f"{tmp_path}/day[12].csv", tmp_path) == [
        "day1.csv",
        "day2.csv",
    ]


def test_spans_below_a_name_with_brackets(tmp_path: Path) -> None:
    touch(tmp_path, "run[1]/2024-01-01/x", "run[1]/2024-01-02/x")
    touch(tmp_path, "run1/2024-01-03/x")
    path = f"{tmp_path}/run[1]/{{DATE}}/x"
    assert days(path, tmp_path) == [
        "run[1]/2024-01-01/x",
        "run[1]/2024-01-02/x",
    ]


def days(path: str, root: Path, **spans: Any) -> list[str]:
    source = LogFiles(path=(path,), format="tsv", columns=("a",))
    spans = spans or {"since": "2000-01-01", "skip_missing": True}
    resolved, _ = resolve(source, Spans.model_validate(spans))
    # The paths are files, whatever characters they have.
    again = [p for p, _, _ in log_paths.find(resolved.path)]
    assert tuple(again) == resolved.path
    return [str(Path(p).relative_to(root)) for p in resolved.path]


def test_months_and_days_may_have_one_digit(tmp_path: Path) -> None:
    touch(tmp_path, *(f"year=2024/month={m}/day={d}/p" for m, d in DATES))
    path = f"{tmp_path}/year={{YYYY}}/month={{MM}}/day={{DD}}/p"
    wanted = [f"year=2024/month={m}/day={d}/p" for m, d in DATES]
    assert days(path, tmp_path) == wanted
    # The same where the path is that of folders.
    assert days(path.removesuffix("/p"), tmp_path) == wanted
    assert days(path.removesuffix("p"), tmp_path) == wanted


DATES = ((1, 2), (1, 10), ("02", "03"), (10, 1))


def test_digits_in_a_row_are_two_for_a_month_and_two_for_a_day(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "log-20240111", "log-2024111", "log-2024011", "log-202411")
    path = f"{tmp_path}/log-{{YYYY}}{{MM}}{{DD}}"
    assert days(path, tmp_path) == ["log-20240111"]


def test_a_day_twice_in_a_path_is_one_day_however_it_is_written(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "month=1/2024-01-05", "month=2/2024-01-06")
    path = f"{tmp_path}/month={{MM}}/{{DATE}}"
    assert days(path, tmp_path) == ["month=1/2024-01-05"]


def rows_of(count: int, first: int = 0) -> list[Row]:
    return [
        {"click": i % 2, "site": f"s{i}", "price": i / 2}
        for i in range(first, first + count)
    ]


def read(path: Any, format: str, columns: Row, **data: Any) -> Output:
    log = log_of(path, format, **data.pop("log", {}))
    data.setdefault("split_by", FIRST)
    with fresh_folder() as out:
        return convert_log(out / "out", log, columns, **data)


@pytest.mark.parametrize("format", FORMATS)
def test_partitions_are_columns_in_every_format(
    tmp_path: Path, format: str
) -> None:
    for number, folder in enumerate(
        ("dt=2024-01-05/n=1", "dt=a%3Ab%2Fc/n=2", f"dt={NONE}/n={NONE}")
    ):
        rows = rows_of(2, 2 * number)
        write_log(tmp_path / folder / "part-0", format, rows)
    columns = {
        "dt": ("string", None),
        "n": ("float", None),
        "site": ("string", None),
    }
    output = read(tmp_path, format, columns)
    assert output.rejected == []
    wanted = ["2024-01-05", "2024-01-05", None, None, "a:b/c", "a:b/c"]
    assert output.column("dt") == wanted
    assert output.column("n") == [1, 1, None, None, 2, 2]
    assert output.column("site") == ["s0", "s1", "s4", "s5", "s2", "s3"]


NONE = "__HIVE_DEFAULT_PARTITION__"


@pytest.mark.parametrize("format", FORMATS)
def test_label_key_and_time_may_be_partitions(
    tmp_path: Path, format: str
) -> None:
    for day in (1, 2, 3, 4):
        folder = tmp_path / f"day=2024-01-0{day}/click={day % 2}"
        rows = [{"site": f"{day}", "price": 1.0} for _ in range(2)]
        write_log(folder / "part-0", format, rows)
    columns = {"site": ("string", None)}
    by_time = {"by": "time", "eval": 0.5}
    output = read(tmp_path, format, columns, split_by=by_time, time="day")
    assert [(r["site"], r["label"]) for r in output.eval] == [
        *[("3", 1)] * 2,
        *[("4", 0)] * 2,
    ]
    by_key = {"by": "hash", "eval": 0.5, "key": "day"}
    output = read(tmp_path, format, {}, split_by=by_key)
    assert len(output.kept) == 8


@pytest.mark.parametrize("format", FORMATS)
def test_a_column_of_the_file_counts_more_than_its_folder(
    tmp_path: Path, format: str
) -> None:
    folder = tmp_path / "site=me"
    write_log(folder / "part-0", format, rows_of(2))
    columns = {"site": ("string", None)}
    assert read(folder, format, columns).column("site") == ["s0", "s1"]


@pytest.mark.parametrize("format", ["jsonl", "tfrecord"])
def test_a_row_without_the_value_has_that_of_its_folder(
    tmp_path: Path, format: str
) -> None:
    rows: list[Row] = [{"click": 0, "n": 5}, {"click": 1}]
    write_log(tmp_path / "n=7" / "part-0", format, rows)
    assert read(tmp_path, format, {"n": ("int", None)}).column("n") == [5, 7]


def test_columns_of_a_csv_without_header_and_of_its_folders(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "dt=1/x")
    (tmp_path / "dt=1/x").write_text("0,a\n1,b\n")
    log = {"columns": ["click", "site"]}
    columns = {"dt": ("string", None), "site": ("string", None)}
    output = read(f"{tmp_path}/dt=*", "csv", columns, log=log)
    assert output.column("dt") == ["1", "1"]
    # The config knows them by the path.
    data = {
        "impressions": log_of(f"{tmp_path}/dt=*/*", "csv", **log),
        "label": "click",
        "time": "dt",
        "split": {"by": "time"},
    }
    DataConfig.model_validate(data)
    with pytest.raises(ValueError, match="'hour', which is not among"):
        DataConfig.model_validate(data | {"time": "hour"})


def test_paths_are_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_log(tmp_path / "logs/a b.csv", "csv", rows_of(2))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "logs")
    columns = {"site": ("string", None)}
    for path in (
        "~/logs/a b.csv",
        "~/logs",
        f"file://{tmp_path}/logs/*.csv",
        f"file:{tmp_path}/logs/a b.csv",
        "*.csv",
        "a b.csv",
        ".",
        "./*.csv",
    ):
        assert len(read(path, "csv", columns).kept) == 2, path


def test_an_output_folder_may_have_brackets(tmp_path: Path) -> None:
    from components.click_log_gen import executor

    folder = tmp_path / "runs[1]*?" / "work"
    other = tmp_path / "runs1xx" / "work"
    touch(folder, "a", "b")
    touch(other, "a")
    with executor._temporary(str(folder)):
        assert list(folder.iterdir()) == []
        touch(folder, "c")
    assert not folder.exists()
    assert [path.name for path in other.iterdir()] == ["a"]
