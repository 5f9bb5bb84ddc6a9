"""Messages of an ingest about times, labels, integers and empty columns."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from components.click_log_gen import checks
from components.click_log_gen.component import ClickLogGen
from components.click_log_gen.config.sections import DataConfig
from models.errors import InputError
from tests.components.click_log_gen.ingest import (
    FORMATS,
    Output,
    Row,
    convert_log,
    log_of,
    write_log,
)

COLUMNS: Any = {"price": ("float", None), "slot": ("int", None)}
BY_TIME = {"by": "time", "eval": 0.25}
HOURS = {"column": "t", "format": "%y%m%d%H"}


def rows_of(count: int) -> list[Row]:
    """Rows of an hour each from 2014-10-21 on, half of them clicked."""
    return [
        {
            "id": f"i{i}",
            "click": i % 2,
            "price": 0.5,
            "slot": i % 12,
            "t": 14102100 + i // 24 * 100 + i % 24,
        }
        for i in range(count)
    ]


def ingest(
    folder: Path, rows: list[Row], format: str = "csv", **data: Any
) -> Output:
    """The ingest without Beam, and its own judgement."""
    path = write_log(folder / f"log.{format}", format, rows)
    log = log_of(path, format)
    options = {"split": {"by": "order", "eval": 0.25}} | {
        name: value for name, value in data.items() if name != "ranges"
    }
    config = DataConfig.model_validate(
        {"impressions": log, "label": "click", **options}
    )
    split = options.pop("split")
    output = convert_log(
        folder / "out",
        log,
        COLUMNS,
        split_by=split,
        ranges=data.get("ranges"),
        **{"label": "click", **options},
    )
    output.counts["warnings"] = checks.warnings(output.counts, config)
    checks.check(output.counts, config)
    return output


@pytest.mark.parametrize("format", FORMATS)
def test_calendar_hours_stop_the_run_with_the_format_that_reads_them(
    tmp_path: Path, format: str
) -> None:
    random_ = random.Random(0)
    rows = random_.sample(rows_of(96), 96)
    with pytest.raises(InputError) as error:
        ingest(tmp_path / "guessed", rows, format, split=BY_TIME, time="t")
    assert "96 of 96 rows (100.00%) were rejected" in str(error.value)
    assert 'give data.time.format, such as "%y%m%d%H"' in str(error.value)
    output = ingest(tmp_path / "said", rows, format, split=BY_TIME, time=HOURS)
    assert output.counts["eval"] == 24
    assert output.counts["times"] == {
        "train": {
            "first": "2014-10-21T00:00:00Z",
            "last": "2014-10-23T23:00:00Z",
        },
        "eval": {
            "first": "2014-10-24T00:00:00Z",
            "last": "2014-10-24T23:00:00Z",
        },
    }


def test_a_join_by_calendar_hours_counts_in_hours(tmp_path: Path) -> None:
    shown = rows_of(72)
    # Clicks of the same hour, and of five hours later, which is not 500 s.
    clicked = [{"id": f"i{i}", "t": shown[i]["t"]} for i in range(0, 60, 3)]
    clicked += [
        {"id": f"i{i}", "t": shown[i + 5]["t"]} for i in range(1, 60, 3)
    ]
    for name, rows in (("shown", shown), ("clicked", clicked)):
        write_log(tmp_path / f"{name}.csv", "csv", rows)

    def join(folder: str, time: Any) -> Output:
        clicks = log_of(tmp_path / "clicked.csv", "csv") | {"key": "id"}
        return convert_log(
            tmp_path / folder,
            log_of(tmp_path / "shown.csv", "csv"),
            COLUMNS,
            None,
            time=time,
            clicks=clicks,
        )

    output = join("said", HOURS)
    assert output.counts["clicks"]["joined"] == 20
    assert output.counts["clicks"]["late"] == 20
    assert output.counts["clicks"]["times"] == {
        "first": "2014-10-21T00:00:00Z",
        "last": "2014-10-23T15:00:00Z",
    }
    guessed = join("guessed", "t").counts
    assert guessed["rejected"] == 72 and guessed["clicks"]["rejected"] == 40


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_calendar_minutes_that_pass_for_seconds_stop_the_run(
    tmp_path: Path, format: str
) -> None:
    rows = rows_of(400)
    for i, row in enumerate(rows):  # 1410210030 is a second of 2014-09-08
        row["t"] = 1410210000 + i // 60 * 100 + i % 60 + i // 240 * 10_000
    with pytest.raises(InputError) as error:
        ingest(tmp_path / "guessed", rows, format, split=BY_TIME, time="t")
    assert str(error.value) == (
        "column t: all times read as minutes of a calendar, such as"
        ' 1410210000; give data.time.format: "%y%m%d%H%M", or seconds if they'
        " count from 1970"
    )
    for name in ("%y%m%d%H%M", "seconds"):
        time = {"column": "t", "format": name}
        ingest(tmp_path / name[-2:], rows, format, split=BY_TIME, time=time)
    rows[200]["t"] += 40  # a minute of 60 and more: they are seconds
    ingest(tmp_path / "seconds", rows, format, split=BY_TIME, time="t")


@pytest.mark.parametrize(
    ("first", "step", "count"),
    [(2103150900, 1, 180), (2103150000, 15, 96), (1912110005, 60, 60)],
)
def test_calendar_minutes_of_one_day_stop_the_run(
    tmp_path: Path, first: int, step: int, count: int
) -> None:
    rows = rows_of(count)
    for i, row in enumerate(rows):  # from midnight or nine o'clock on
        minutes = i * step
        day = minutes // 1440 * 10_000
        row["t"] = first + day + minutes % 1440 // 60 * 100 + minutes % 60
    with pytest.raises(InputError, match=r"minutes of a calendar, such as"):
        ingest(tmp_path, rows, split=BY_TIME, time="t")


@pytest.mark.parametrize("start", [1410210000, 1410212300, 1913849600])
def test_seconds_of_some_minutes_are_no_calendar(
    tmp_path: Path, start: int
) -> None:
    rows = rows_of(300)
    for i, row in enumerate(rows):
        row["t"] = start + i
    for end in (60, 300):
        ingest(tmp_path / str(end), rows[:end], split=BY_TIME, time="t")


def test_rows_of_one_time_are_named_as_such(tmp_path: Path) -> None:
    rows = [row | {"t": 1413849600} for row in rows_of(40)]
    with pytest.raises(InputError) as error:
        ingest(tmp_path, rows, split=BY_TIME, time="t")
    assert str(error.value) == (
        "The train split is empty: all 40 rows have the time"
        " 2014-10-21T00:00:00Z, and rows of one time stay together. Change"
        " data.split.by to hash or order, or data.time"
    )


@pytest.mark.parametrize(
    ("label", "missing"), [(0, "positive"), (1, "negative")]
)
def test_labels_of_one_class_stop_the_run(
    tmp_path: Path, label: int, missing: str
) -> None:
    rows = [row | {"click": label} for row in rows_of(300)]
    with pytest.raises(InputError) as error:
        ingest(tmp_path, rows)
    said = str(error.value)
    assert said.startswith(f"The train split has no {missing}: by data.label: ")
    assert f"labels are {label}" in said


def test_a_rule_that_no_row_meets_is_shown(tmp_path: Path) -> None:
    rule = {"column": "price", "at_least": 4.0}
    with pytest.raises(InputError, match=r"label: \{column: price, at"):
        ingest(tmp_path, rows_of(300), label=rule)


@pytest.mark.parametrize(
    ("split", "told"),
    [
        ({}, True),
        ({"eval": 0.2}, True),
        ({"by": "hash"}, False),
        ({"by": "time"}, False),
    ],
)
def test_times_that_no_split_follows_are_told_unless_it_was_asked_for(
    split: dict[str, Any], told: bool
) -> None:
    log = log_of("log.csv", "csv")
    given = {"impressions": log, "label": "click", "split": split}
    config = DataConfig.model_validate({**given, "time": "t"})
    spec = ClickLogGen(config, {}, {}).exec_properties
    received = DataConfig.model_validate_json(spec["data"])
    assert received == config
    counts = {
        "empty_columns": [],
        "train": 900,
        "eval": 900,
        "positives": {"train": 300, "eval": 300},
    }
    found = checks.warnings(counts, received)
    assert [text[:27] for text in found] == (
        ["data.split.by is not given,"] if told else []
    )
    timeless = DataConfig.model_validate(given | {"split": {}})
    assert checks.warnings(counts, timeless) == []


def test_a_split_without_a_positive_is_named(tmp_path: Path) -> None:
    rows = [row | {"click": int(i < 99)} for i, row in enumerate(rows_of(800))]
    output = ingest(tmp_path, rows, split={"by": "order", "eval": 0.25})
    assert output.counts["positives"] == {"train": 99, "eval": 0}
    assert output.counts["warnings"] == [
        (
            "the train split has 99 positives among its 600 rows; a metric on"
            " fewer than 100 is mostly chance"
        ),
        (
            "the eval split has no positive among its 200 rows: auc and pr_auc"
            " cannot be told on it"
        ),
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_integers_out_of_range_are_counted_and_bounded(
    tmp_path: Path, format: str
) -> None:
    rows = rows_of(240)
    rows[0]["slot"], rows[1]["slot"], rows[2]["slot"] = -1, None, 2**40
    ranges = {"slot": 11}
    with pytest.raises(InputError) as error:
        ingest(tmp_path / "one", rows, format, ranges=ranges)
    assert str(error.value).startswith(
        "column slot: 22 of 240 rows (9.17%) hold an integer out of range,"
    )
    assert "data.max_out_of_range accepts 1.00%" in str(error.value)
    output = ingest(
        tmp_path / "two", rows, format, ranges=ranges, max_out_of_range=0.1
    )
    assert output.counts["out_of_range"] == {"slot": 22}


@pytest.mark.parametrize("format", ["csv", "tsv", "parquet", "avro"])
def test_a_column_without_any_value_is_a_warning(
    tmp_path: Path, format: str
) -> None:
    rows = [row | {"slot": None} for row in rows_of(960)]
    if format == "parquet":
        rows[0]["slot"] = float("nan")
    output = ingest(tmp_path, rows, format)
    assert output.counts["empty_columns"] == ["slot"]
    assert output.counts["warnings"] == [
        "column slot has no value in any row; its feature tells nothing"
    ]
