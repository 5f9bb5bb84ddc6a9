"""The label: what a column says itself, and what a rule makes of it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from components.click_log_gen.columns.labels import label
from components.click_log_gen.columns.rows import Column, Verdicts
from components.click_log_gen.config.labels import LabelRule


def read(
    values: Any, type: Any = None, **rule: Any
) -> tuple[list[int], dict[int, str]]:
    verdicts = Verdicts.none(len(values))
    found = label(
        pa.array(values, type),
        Column("y"),
        LabelRule(column="y", **rule) if rule else None,
        verdicts,
    )
    assert found.type == pa.int64()
    return found.to_pylist(), verdicts.reasons


@pytest.mark.parametrize(
    "values",
    [
        ["0", "1"],
        ["0.0", "1.0"],
        ["false", "true"],
        ["False", "True"],
        ["FALSE", "TRUE"],
        ["0", "True"],
        ["-0", "+1.00"],
        [" 0", "1 "],
        [b"0", b"1"],
        [0, 1],
        [0.0, 1.0],
        [False, True],
        [[0], [1]],
        [["0"], ["true"]],
    ],
)
def test_zero_and_one_in_any_dress(values: Any) -> None:
    assert read(values) == ([0, 1], {})


@pytest.mark.parametrize(
    "value", ["2", "-1", "0.5", "yes", "t", "click", "nan", "inf", "1 0"]
)
@pytest.mark.parametrize("other", ["0", "true"])
def test_another_text_is_refused(value: str, other: str) -> None:
    reason = "column y: the label is neither 0 nor 1"
    assert read([other, value])[1] == {1: reason}


@pytest.mark.parametrize("value", [2, -1, 0.5, float("inf")])
def test_another_number_is_refused(value: float) -> None:
    assert read([0, value])[1] == {1: "column y: the label is neither 0 nor 1"}


@pytest.mark.parametrize(
    ("values", "type"),
    [
        ([None, "0"], None),
        (["", "0"], None),
        ([None, 0], None),
        ([None, False], None),
        ([float("nan"), 0.0], None),
        ([None, None], pa.null()),
    ],
)
@pytest.mark.parametrize("rule", [{}, {"at_least": 0}, {"equals": "0"}])
def test_a_row_without_a_label_is_refused(
    values: Any, type: Any, rule: Any
) -> None:
    assert read(values, type, **rule)[1][0] == "column y: no label"


RATINGS = ["3.5", "4", "4.0", "4.5", "1e1"]


@pytest.mark.parametrize("convert", [str, float])
@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ({"at_least": 4}, [0, 1, 1, 1, 1]),
        ({"at_most": 4}, [1, 1, 1, 0, 0]),
        ({"equals": 4}, [0, 1, 1, 0, 0]),
    ],
)
def test_rules_compare_numbers(convert: Any, rule: Any, wanted: Any) -> None:
    assert read([convert(r) for r in RATINGS], **rule) == (wanted, {})


def test_a_text_is_equal_as_text() -> None:
    values = ["4", "4.0", "buy"]
    assert read(values, equals="4") == ([1, 0, 0], {})
    assert read(values, equals="buy") == ([0, 0, 1], {})
    assert read([4, 5], equals="4") == ([1, 0], {})
    assert read([True, False], equals="true") == ([1, 0], {})


def test_rules_refuse_what_is_no_number() -> None:
    for rule in ({"at_least": 4}, {"at_most": 4}, {"equals": 4}):
        _, reasons = read(["5", "x", "inf"], **rule)
        assert reasons == {
            1: "column y: not a number",
            2: "column y: not a finite number",
        }


def test_bounds_are_exact() -> None:
    assert read([16777216, 16777217], at_least=16777217)[0] == [0, 1]
    assert (
        read(["0.1"], at_least=0.1)[0] == read(["0.1"], at_most=0.1)[0] == [1]
    )
    # As TensorFlow and many parquet writers store 0.1.
    for kind in (pa.float32(), pa.list_(pa.float32())):
        value = [0.1] if pa.types.is_list(kind) else 0.1
        assert read([value], kind, at_least=0.1)[0] == [1]
        assert read([value], kind, at_most=0.1)[0] == [1]
        assert read([value], kind, equals=0.1)[0] == [1]


@pytest.mark.parametrize(
    "rule", [{}, {"at_least": 1, "at_most": 2}, {"equals": True}]
)
def test_a_rule_is_exactly_one_comparison(rule: Any) -> None:
    with pytest.raises(ValidationError):
        LabelRule(column="y", **rule)
