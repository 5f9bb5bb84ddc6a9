"""JSON values to columns: any value is taken or refused by name."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.click_log_gen.columns.value_text import category
from serving.columns import to_column
from serving.errors import BadInputError

FLOAT32 = np.dtype(np.float32)
INT64 = np.dtype(np.int64)
STRING = np.dtype(object)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["b64", "x"]), st.text(), max_size=2),
)


def takes(dtype: np.dtype[Any], value: object) -> bool:
    if dtype == FLOAT32:
        if type(value) is float and not math.isfinite(value):
            return True
        return value is None or (
            isinstance(value, int | float)
            and type(value) is not bool
            and abs(value) <= float(np.finfo(np.float32).max)
        )
    if dtype == INT64:
        return value is None or (
            type(value) is int and -(2**63) <= value < 2**63
        )
    return value is None or isinstance(value, str | int | float)


def single(values: list[object]) -> list[object]:
    """A column of lists of one is a column of their values."""
    if values and all(type(v) is list and len(v) == 1 for v in values):
        return [v[0] for v in values if isinstance(v, list)]
    return values


@given(st.sampled_from([FLOAT32, INT64, STRING]), st.lists(SCALARS))
def test_every_value_is_taken_or_refused_by_name(
    dtype: np.dtype[Any], values: list[object]
) -> None:
    plain = [v for v in values if type(v) is not dict]
    try:
        column = to_column("f", dtype, plain)
    except BadInputError as error:
        assert "'f'" in str(error)
        assert not all(takes(dtype, value) for value in single(plain))
    else:
        assert column.shape == (len(plain),)
        assert column.dtype == dtype
    try:
        to_column("f", dtype, values)
    except BadInputError as error:
        assert "'f'" in str(error)


@given(st.one_of(st.booleans(), st.integers(), st.floats()))
def test_a_number_for_a_text_is_what_the_ingest_writes(value: float) -> None:
    (found,) = to_column("f", STRING, [value])
    assert found == (category(value) or "")


def test_a_column_may_have_the_shape_rows_by_one() -> None:
    assert to_column("f", INT64, [[1], [2]]).tolist() == [1, 2]
    assert to_column("f", STRING, [["a"]]).tolist() == ["a"]
    with pytest.raises(BadInputError, match="list"):
        to_column("f", INT64, [[1], [2, 3]])


def test_missing_values() -> None:
    assert np.isnan(to_column("f", FLOAT32, [None, 1])[0])
    assert to_column("f", INT64, [None, 3]).tolist() == [-1, 3]
    assert to_column("f", STRING, [None, "a"]).tolist() == ["", "a"]
    with pytest.raises(BadInputError, match="null"):
        to_column("f", np.dtype(np.uint8), [None])


def test_base64_with_and_without_padding() -> None:
    column = to_column("f", STRING, [{"b64": "YQ=="}, {"b64": "YQ"}, "a"])
    assert column.tolist() == [b"a", b"a", "a"]


@pytest.mark.parametrize(
    "dtype, values, words",
    [
        (FLOAT32, [1.0, "2"], "row 1: expected a number .* '2' .string."),
        (FLOAT32, [10**400], "within float32"),
        (INT64, [1, 2.0], "row 1: expected an integer .* 2.0 .number."),
        (np.dtype(np.int8), [300], "within int8. Received: 300"),
        (np.dtype(bool), [1], "true or false"),
        (STRING, [b"a", {"b65": "YQ=="}], "row 1: expected a string"),
        (FLOAT32, ["x" * 500], r"x\.\.\. .string."),
    ],
)
def test_errors_say_where_and_what(
    dtype: np.dtype[Any], values: list[object], words: str
) -> None:
    with pytest.raises(BadInputError, match=f"feature 'f', .*{words}"):
        to_column("f", dtype, values)
