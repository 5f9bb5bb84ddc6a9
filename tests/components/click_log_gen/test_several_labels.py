"""Several labels of a row: what examples hold, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from components.click_log_gen import checks
from components.click_log_gen.config.sections import DataConfig
from models.errors import InputError
from tests.components.click_log_gen.ingest import (
    Output,
    Row,
    convert_log,
    log_of,
    write_log,
)

LABELS = {"click": "clicked", "buy": {"column": "bought", "of": "click"}}
COLUMNS = {"site": ("string", None)}


def ingest(
    folder: Path,
    rows: list[Row],
    labels: Any = LABELS,
    format: str = "csv",
    **data: Any,
) -> Output:
    log = write_log(folder / f"log.{format}", format, rows)
    return convert_log(
        folder / "out",
        log_of(log, format),
        COLUMNS,
        None,
        labels=labels,
        max_rejected=1,
        **data,
    )


def rows(count: int = 200) -> list[Row]:
    """Clicked rows have bought 1, 0 or none; others 0 or none."""
    return [
        {
            "site": f"s{n}",
            "clicked": int(n % 4 == 0),
            "bought": None if n % 3 == 0 else int(n % 8 == 0),
        }
        for n in range(count)
    ]


ORDERED = {"by": "order", "eval": 0.5}


@pytest.mark.parametrize(
    ("bought", "values"),
    [
        (0, "0 positives, 25 negatives, 0 not known"),
        (1, "25 positives, 0 negatives, 0 not known"),
        (None, "0 positives, 0 negatives, 25 not known"),
    ],
)
@pytest.mark.parametrize("later", ["as before", "both"])
def test_a_label_of_one_class_in_train_stops_the_ingest(
    tmp_path: Path, bought: int | None, values: str, later: str
) -> None:
    log = [
        {**row, "bought": bought if row["clicked"] else 0}
        for row in rows()[:100]
    ]
    log += [
        {
            **row,
            "bought": one["bought"] if later == "as before" else row["bought"],
        }
        for one, row in zip(log, rows()[100:], strict=True)
    ]
    found = ingest(tmp_path, log, split_by=ORDERED)
    data = checked(LABELS)
    reason = f"data.labels.buy: {values} in the 25 training rows with click"
    with pytest.raises(InputError, match=reason) as error:
        checks.check(found.counts, data)
    assert "(eval " in str(error.value) and "accepted: " in str(error.value)


def test_a_later_label_of_one_class_in_eval_is_a_warning(
    tmp_path: Path,
) -> None:
    log = rows()[:100] + [
        {**row, "bought": 0 if row["bought"] else row["bought"]}
        for row in rows()[100:]
    ]
    found = ingest(tmp_path, log, split_by=ORDERED)
    data = checked(LABELS)
    checks.check(found.counts, data)
    (line,) = [
        line
        for line in checks.warnings(found.counts, data)
        if line.startswith("the eval split has no positive of the label buy")
    ]
    assert "rows with click where it is known: auc and pr_auc" in line


def test_few_negatives_of_a_later_label_are_a_warning(tmp_path: Path) -> None:
    found = ingest(tmp_path, rows())
    data = checked(LABELS)
    checks.check(found.counts, data)
    few = "negatives of the label buy among its"
    lines = [
        line for line in checks.warnings(found.counts, data) if few in line
    ]
    assert [line.split()[1] for line in lines] == ["train", "eval"]


def checked(labels: Any) -> DataConfig:
    log = {"path": "x", "format": "jsonl"}
    return DataConfig.model_validate({"impressions": log, "labels": labels})


@pytest.mark.parametrize("format", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("by", ["hash", "order"])
def test_each_label_is_a_feature(tmp_path: Path, format: str, by: str) -> None:
    split = {"by": by, "eval": 0.5}
    found = ingest(tmp_path, rows(), format=format, split_by=split)
    assert not found.rejected
    assert found.counts["positives"]["train"] == sum(
        row["label"] for row in found.train
    )
    bought = [row["bought"] for row in rows() if row["clicked"]]
    (told,) = found.counts["labels"].values()
    parts = told.pop("splits")
    for values, counted in (
        ([{None: -1}.get(b, b) for b in bought], told),
        *(
            ([r["example_label_buy"] for r in some if r["label"]], parts[name])
            for name, some in (("train", found.train), ("eval", found.eval))
        ),
    ):
        assert counted == {
            "positives": values.count(1),
            "negatives": values.count(0),
            "unknown": values.count(-1),
        }
    by_site = {row["site"]: row for row in found.kept}
    assert len(by_site) == 200
    for row in rows():
        kept = by_site[row["site"]]
        assert kept["label"] == row["clicked"]
        unknown = row["bought"] is None
        assert kept["example_label_buy"] == (-1 if unknown else row["bought"])


def test_labels_do_not_move_a_row_to_another_split(tmp_path: Path) -> None:
    one = ingest(tmp_path / "one", rows())
    other = [{**row, "bought": 0, "clicked": 1} for row in rows()]
    two = ingest(tmp_path / "two", [*other[:-1], {**other[-1], "clicked": 0}])
    assert [row["site"] for row in one.train] == [
        row["site"] for row in two.train
    ]


def test_purchase_without_a_click_is_rejected(tmp_path: Path) -> None:
    bad = {"site": "bad", "clicked": 0, "bought": 1}
    found = ingest(tmp_path, [*rows(), bad])
    assert found.reasons == ["column bought: 1 in a row whose first label is 0"]
    alone = {**LABELS, "buy": "bought"}
    assert not ingest(tmp_path / "2", [*rows(), bad], alone).rejected


def test_label_that_is_no_label_is_rejected(tmp_path: Path) -> None:
    bad = [
        {"site": "two", "clicked": 1, "bought": 2},
        {"site": "none", "clicked": None, "bought": 1},
    ]
    found = ingest(tmp_path, [*rows(), *bad])
    assert sorted(found.reasons) == [
        "column bought: the label is neither 0 nor 1",
        "column clicked: no label",
    ]


def test_labels_may_be_rules_over_one_column(tmp_path: Path) -> None:
    rated: list[Row] = [
        {"site": f"s{n}", "stars": [1, 4, 5, None][n % 4]} for n in range(200)
    ]
    labels = {
        "like": {"column": "stars", "at_least": 4},
        "love": {"column": "stars", "at_least": 5, "of": "like"},
    }
    found = ingest(tmp_path, rated, labels)
    assert set(found.reasons) == {"column stars: no label"}
    loved = {row["example_label_love"] for row in found.kept if row["label"]}
    assert loved == {0, 1}


def test_config_refuses_labels_that_do_not_fit() -> None:
    def problem(labels: Any, **more: Any) -> str:
        data = {"impressions": {"path": "x", "format": "jsonl"}, **more}
        with pytest.raises(ValidationError) as error:
            DataConfig.model_validate({**data, "labels": labels})
        assert len(error.value.errors()) == 1, error.value
        return str(error.value.errors()[0]["ctx"]["error"])

    both = {"click": "c", "buy": {"column": "b", "of": "click"}}
    assert "accepted: two labels or more" in problem({"click": "c"})
    assert "accepted: 'click', the first label" in problem(
        {"click": "c", "buy": {"column": "b", "of": "cart"}}
    )
    assert "for the first label" in problem(
        {"click": {"column": "c", "of": "buy"}, "buy": "b"}
    )
    assert "received 'other' beside `labels`" in problem(both, label="other")
    assert "is of no other" in problem(
        {"click": "c", "like": "l"}, negatives={"keep": 0.5}
    )
    assert "accepted: `from`, a log of `events`" in problem(
        both, clicks={"path": "y", "format": "jsonl"}, time="ts"
    )
    assert "without `clicks`" in problem(
        {"click": {"from": "clicks"}, "buy": "b"}
    )
    rule = {"click": {"column": "c", "at_least": 1, "equals": 2}, "buy": "b"}
    with pytest.raises(ValidationError, match="exactly one of"):
        DataConfig.model_validate(
            {"impressions": {"path": "x", "format": "jsonl"}, "labels": rule}
        )


def test_config_with_its_defaults_is_read_again() -> None:
    config = DataConfig.model_validate(
        {
            "impressions": {"path": "x", "format": "jsonl"},
            "labels": {
                "click": {"column": "stars", "at_least": 4},
                "buy": {"column": "b", "of": "click"},
            },
        }
    )
    assert config.label_column == "stars"
    again = DataConfig.model_validate(config.model_dump(mode="json"))
    assert again == config
    assert DataConfig.model_validate_json(config.model_dump_json()) == config


def test_config_refuses_events_that_do_not_fit() -> None:
    def problem(buy: Any, **more: Any) -> str:
        data = {
            "impressions": {"path": "x", "format": "jsonl"},
            "labels": {"click": "c", "buy": buy},
            "events": {"orders": {"path": "y", "format": "jsonl"}},
            "time": "ts",
        }
        with pytest.raises(ValidationError) as error:
            DataConfig.model_validate({**data, **more})
        assert len(error.value.errors()) == 1, error.value
        return str(error.value.errors()[0]["msg"])

    buy = {"from": "orders", "key": "id", "window": "24h"}
    for changed, words in (
        ({"column": "b"}, "give either `column` or `from`; received both"),
        ({"from": None}, "received neither"),
        ({"window": "1 day"}, "window"),
        ({"window": None}, "needs `key`, such as impression_id, and"),
        ({"at_least": 2}, "An event is the label"),
        ({"from": "others"}, "accepted: a log of `events`: orders"),
        ({"impression_key": ["a", "b"]}, "as many columns as `key` has, 1"),
        ({"key": ["a", "a"]}, "received ['a', 'a']; accepted: one column"),
    ):
        found = problem({**buy, **changed})
        assert words in found or words == "window", found
    assert "no label is from it" in problem({"column": "b"})
    assert "needs `time`" in problem(buy, time=None)
    listed = {"path": "y", "format": "csv", "columns": ["id", "when"]}
    assert "is column 'ts', which is not among" in problem(
        buy, events={"orders": listed}
    )
