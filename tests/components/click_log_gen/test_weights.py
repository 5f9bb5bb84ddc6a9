"""Weights of rows: where they come from, and what they do not change."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from components.click_log_gen.config.sections import DataConfig
from tests.components.click_log_gen.ingest import (
    SECONDS,
    Output,
    Row,
    convert_log,
    log_of,
    write_log,
)

DAY = 86_400
DRAW = random.Random(4)
ROWS = [
    {
        "site": f"s{i}",
        "click": int(DRAW.random() < 0.3),
        "t": i * 3600,
        "value": round(DRAW.uniform(0.1, 9), 3),
        "age": DRAW.randrange(30),
        "p": round(DRAW.uniform(0.01, 1), 4),
        "one": 1,
    }
    for i in range(600)
]
COLUMNS = {"site": ("string", None)}
SPLITS: list[Row] = [
    {"by": "hash", "eval": 0.3},
    {"by": "hash", "eval": 0.3, "key": "site"},
    {"by": "time", "eval": 0.3},
    {"by": "order", "eval": 0.3},
]


def ingest(
    folder: Path, rows: list[Row], weight: Any, format: str = "csv", **data: Any
) -> Output:
    log = write_log(folder / f"log.{format}", format, rows)
    more: Row = {"time": SECONDS, "split_by": SPLITS[0]} | data
    if weight is not None:
        more["weight"] = weight
    return convert_log(folder / "out", log_of(log, format), COLUMNS, **more)


def by_site(output: Output) -> dict[str, float]:
    return {row["site"]: row["example_weight"] for row in output.kept}


@pytest.mark.parametrize("format", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        ("value", lambda row: row["value"]),
        ({"column": "value", "clip": 5}, lambda row: min(row["value"], 5)),
        (
            {"column": "age", "half_life": 7},
            lambda row: 2 ** -(row["age"] / 7),
        ),
        (
            {"half_life": "7d"},
            lambda row: 2 ** -((ROWS[-1]["t"] - row["t"]) / (7 * DAY)),
        ),
        (
            {"propensity": "p", "clip": 20},
            lambda row: min(1 / row["p"], 20),
        ),
    ],
)
def test_weight_follows_from_the_row(
    tmp_path: Path, format: str, weight: Any, expected: Any
) -> None:
    output = ingest(tmp_path, ROWS, weight, format)
    found = by_site(output)
    wanted = {row["site"]: expected(row) for row in ROWS}
    assert found == pytest.approx(wanted, rel=1e-6)
    for name in ("train", "eval"):
        rows = getattr(output, name)
        sums = output.counts["weights"][name]
        each = np.array([row["example_weight"] for row in rows])
        labels = np.array([row["label"] for row in rows])
        assert sums["rows"] == pytest.approx(each.sum())
        assert sums["positives"] == pytest.approx(each @ labels)


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_ages_count_from_the_newest_row_by_any_split(
    tmp_path: Path, split: Row
) -> None:
    rows = DRAW.sample(ROWS, 200)
    newest = max(row["t"] for row in rows)
    found = by_site(ingest(tmp_path, rows, {"half_life": "2d"}, split_by=split))
    assert found == pytest.approx(
        {r["site"]: 0.5 ** ((newest - r["t"]) / (2 * DAY)) for r in rows},
        rel=1e-6,
    )


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_weights_move_no_row(tmp_path: Path, split: Row) -> None:
    negatives = {"keep": 0.4}
    settings = {"split_by": split, "negatives": negatives}
    plain = ingest(tmp_path / "plain", ROWS, None, **settings)
    assert "weights" not in plain.counts
    for weight in ("one", "value"):
        output = ingest(tmp_path / weight, ROWS, weight, **settings)
        for name in ("train", "eval"):
            rows = [dict(row) for row in getattr(output, name)]
            weights = [row.pop("example_weight") for row in rows]
            assert rows == getattr(plain, name)
            assert output.counts["weights"][name]["rows"] == pytest.approx(
                sum(weights)
            )


@pytest.mark.parametrize(
    ("weight", "cell", "reason"),
    [
        ("value", "0", "column value: the weight is zero"),
        ("value", "1e-60", "column value: the weight is zero"),
        ("value", "-2", "column value: the weight is negative"),
        ("value", "", "column value: no weight"),
        ("value", "nan", "column value: no weight"),
        ("value", "inf", "column value: not a finite number"),
        ("value", "much", "column value: not a number"),
        ("value", "1e60", "column value: the weight is too large for 32 bits"),
        (
            {"column": "value", "half_life": 2},
            "-1",
            "column value: the age is negative",
        ),
        ({"column": "value", "half_life": 2}, "", "column value: no age"),
        (
            {"propensity": "value"},
            "0",
            "column value: the propensity is not above 0 and up to 1",
        ),
        (
            {"propensity": "value"},
            "1.5",
            "column value: the propensity is not above 0 and up to 1",
        ),
        ({"propensity": "value"}, "", "column value: no propensity"),
    ],
)
def test_unusable_weight_rejects_its_row(
    tmp_path: Path, weight: Any, cell: str, reason: str
) -> None:
    rows: list[Row] = [dict(row, value=0.5) for row in ROWS[:40]]
    rows[7]["value"] = cell
    output = ingest(tmp_path, rows, weight)
    assert output.reasons == [reason]
    assert len(output.kept) == output.counts["kept"] == 39
    assert output.counts["rejected"] == 1
    assert "s7" not in by_site(output)


def test_default_is_the_weight_of_a_row_without_a_value(tmp_path: Path) -> None:
    rows: list[Row] = [dict(row) for row in ROWS[:40]]
    rows[7]["value"] = ""
    output = ingest(tmp_path, rows, {"column": "value", "default": 1.5})
    assert not output.rejected
    assert by_site(output)["s7"] == 1.5


def test_oldest_rows_stay(tmp_path: Path) -> None:
    rows = [dict(row, age=10**9) for row in ROWS[:40]]
    output = ingest(tmp_path, rows, {"column": "age", "half_life": 1})
    assert len(output.kept) == 40
    assert all(0 < weight < 1e-20 for weight in by_site(output).values())


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        ("p", lambda shown, value: shown["p"]),
        (
            {"column": "value", "default": 2},
            lambda shown, value: 2 if value is None else value,
        ),
        (
            {"half_life": "1d"},
            lambda shown, value: 0.5 ** ((ROWS[299]["t"] - shown["t"]) / DAY),
        ),
    ],
)
@pytest.mark.parametrize("by", ["hash", "time"])
def test_joined_rows_take_the_weight_of_either_log(
    tmp_path: Path, weight: Any, expected: Any, by: str
) -> None:
    shown = [dict(r, id=f"i{n}") for n, r in enumerate(ROWS[:300])]
    values = {n: 0.5 + n for n in range(0, 300, 7)}
    clicked = [
        {"id": f"i{n}", "t": ROWS[n]["t"] + 5, "value": value}
        for n, value in values.items()
    ]
    clicked[1]["value"] = -1.0  # its impression goes with it
    clicks = log_of(write_log(tmp_path / "c.csv", "csv", clicked), "csv")
    clicks |= {"key": "id", "window": "1m", "partitions": 2}
    if "value" in str(weight):
        clicks["carry"] = {"value": "float"}
    output = convert_log(
        tmp_path / "out",
        log_of(write_log(tmp_path / "s.csv", "csv", shown), "csv"),
        COLUMNS,
        label=None,
        split_by={"by": by, "eval": 0.3},
        time=SECONDS,
        clicks=clicks | {"until": "1971-01-01"},
        weight=weight,
    )
    wanted = {
        row["site"]: expected(row, values.get(n)) for n, row in enumerate(shown)
    }
    if "value" in str(weight):
        del wanted["s7"]
        reasons = output.counts["clicks"]["reasons"]
        assert reasons == {"column value: the weight is negative": 1}
    assert by_site(output) == pytest.approx(wanted, rel=1e-6)
    sums = output.counts["weights"]
    total = sum(sums[name]["rows"] for name in ("train", "eval"))
    assert total == pytest.approx(sum(wanted.values()), rel=1e-6)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (2.5, "accepted: a column's name"),
        ({}, "accepted: column, half_life or propensity"),
        ({"clip": 3}, "accepted: column, half_life or propensity"),
        ({"column": "a", "propensity": "p"}, "accepted: one of them"),
        ({"propensity": "p", "half_life": "2d"}, "accepted: one of them"),
        ({"column": "a", "half_life": "2d"}, "a number, in the column's unit"),
        ({"column": "a", "half_life": 0}, "greater than 0"),
        ({"column": "a", "half_life": True}, "received True"),
        ({"half_life": 7}, "received 7"),
        ({"half_life": "7w"}, "30m, 2h or 1d"),
        ({"half_life": "7d", "default": 1}, "accepted: none"),
        ({"column": "a", "half_life": 2, "clip": 3}, "accepted: none"),
        ({"propensity": "p", "clip": 0}, "greater than 0"),
        ("click", "the label's own column"),
    ],
)
def test_config_mistakes_name_what_is_accepted(
    weight: Any, message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        data(weight=weight)


def test_age_by_time_needs_the_time() -> None:
    with pytest.raises(ValidationError, match="needs `time`"):
        data(weight={"half_life": "7d"}, time=None)


def test_column_of_the_clicks_needs_a_default() -> None:
    clicks = {"path": "c", "format": "jsonl", "carry": {"value": "float"}}
    with pytest.raises(ValidationError, match=r"give `weight\.default`"):
        data(weight="value", clicks=clicks)


def data(**more: Any) -> DataConfig:
    return DataConfig.model_validate(
        {
            "impressions": {"path": "a", "format": "jsonl"},
            "label": "click",
            "time": "t",
            **more,
        }
    )
