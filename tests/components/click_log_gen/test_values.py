"""Raw columns to typed ones: every way a value may be written, or be wrong."""

from __future__ import annotations

import datetime
import decimal
import math
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.click_log_gen.columns.rows import Column, Verdicts, typed
from models.errors import InputError


def read(
    values: Any, kind: str, type: Any = None, **column: Any
) -> tuple[list[Any], dict[int, str]]:
    """Typed values, and index -> reason for the refused ones."""
    array = values if isinstance(values, pa.Array) else pa.array(values, type)
    verdicts = Verdicts.none(len(array))
    found = typed(array, kind, Column("c", **column), verdicts)
    assert sorted(verdicts.reasons) == list(np.flatnonzero(~verdicts.good))
    wanted = {"float": pa.float32(), "int": pa.int64(), "string": pa.string()}
    if "separator" in column:
        wanted["string"] = pa.list_(pa.string())
    assert found.type == wanted[kind]
    assert len(found) == len(array)
    return found.to_pylist(), verdicts.reasons


def text_of(values: list[str]) -> pa.Array:
    return pa.array([value.encode() for value in values], pa.binary())


NUMBERS = {
    "1": 1.0,
    "-2.50": -2.5,
    "+3": 3.0,
    ".5": 0.5,
    "5.": 5.0,
    "1e3": 1000.0,
    "-1E-2": -0.01,
    " 7\t": 7.0,
    "007": 7.0,
    "": None,
    "nan": None,
    "NaN": None,
    "-nan": None,
}
NO_NUMBERS = [
    "x",
    "1,5",
    "1_000",
    "0x10",
    "1.2.3",
    "--1",
    "1e",
    "e5",
    "\u0661",
    "-",
]
INFINITE = ["inf", "-Infinity", "INF", "1e999", "1e39", "-3.5e38"]


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_in_text(text: str) -> None:
    wanted = NUMBERS[text]
    wanted = wanted if wanted is None else float(np.float32(wanted))
    # Among good ones and among bad ones, where another way is taken.
    assert read(text_of([text]), "float") == ([wanted], {})
    values, reasons = read(text_of([text, "bad"]), "float")
    assert values == [wanted, None]
    assert reasons == {1: "column c: not a number"}


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_number_is_refused(text: str) -> None:
    reasons = {1: "column c: not a number"}
    assert read(text_of(["1", text]), "float") == ([1.0, None], reasons)


@pytest.mark.parametrize("text", INFINITE)
@pytest.mark.parametrize("other", ["1", "bad"])
def test_what_is_not_finite_in_32_bits_is_refused(
    text: str, other: str
) -> None:
    _, reasons = read(text_of([text, other]), "float")
    assert reasons[0] == "column c: not a finite number"


@settings(deadline=None, max_examples=300)
@given(st.floats(width=32, allow_infinity=False), st.booleans())
def test_any_float32_survives(number: float, with_bad: bool) -> None:
    values, _ = read(text_of([repr(number)] + ["bad"] * with_bad), "float")
    assert values[0] == number or (values[0] is None and math.isnan(number))


@settings(deadline=None, max_examples=300)
@given(st.text(st.sampled_from("0123456789+-.eEinfaty x_\0"), max_size=6))
def test_text_is_a_number_or_not_whatever_stands_beside_it(text: str) -> None:
    alone = read(text_of([text]), "float")
    beside = read(text_of([text, "bad"]), "float")
    assert alone[0][0] == beside[0][0]
    assert alone[1].get(0) == beside[1].get(0)
    if re.fullmatch(r"[+-]?\d+(\.\d+)?", text):
        assert alone[0][0] == float(np.float32(float(text)))


INTEGERS = {
    "0": 0,
    "-0": 0,
    "+5": 5,
    "007": 7,
    " 12 ": 12,
    "3.0": 3,
    "4.": 4,
    "": None,
    "9223372036854775807": 2**63 - 1,
    "-9223372036854775808": -(2**63),
    "0000000000000000000000000000012": 12,
}
NO_INTEGERS = [
    "9223372036854775808",
    "-9223372036854775809",
    "9" * 40,
    "1.5",
    "1e3",
    "0x10",
    "x",
    "-",
    "1 2",
    "nan",
    "inf",
]


@pytest.mark.parametrize("text", INTEGERS)
@pytest.mark.parametrize("other", ["1", "bad"])
def test_integers_in_text(text: str, other: str) -> None:
    values, reasons = read(text_of([text, other]), "int")
    assert values[0] == INTEGERS[text]
    assert 0 not in reasons


@pytest.mark.parametrize("text", NO_INTEGERS)
@pytest.mark.parametrize("other", ["1", "bad"])
def test_what_is_no_integer_of_64_bits_is_refused(
    text: str, other: str
) -> None:
    values, reasons = read(text_of([text, other]), "int")
    assert values[0] is None
    assert reasons[0] == "column c: not an integer of 64 bits"


@settings(deadline=None, max_examples=200)
@given(st.integers(-(2**64), 2**64), st.booleans())
def test_any_int64_survives_and_no_other(number: int, with_bad: bool) -> None:
    values, reasons = read(text_of([str(number)] + ["x"] * with_bad), "int")
    fits = -(2**63) <= number < 2**63
    assert values[0] == (number if fits else None)
    assert (0 in reasons) != fits


def test_text_that_is_not_utf8_is_refused_alone() -> None:
    array = pa.array([b"a", b"\xff", None, b"\xc3\xa9", b""])
    assert read(array, "string") == (
        ["a", None, None, "é", None],
        {1: "column c: not UTF-8"},
    )


def test_a_string_column_that_lies_about_utf8_is_checked_too() -> None:
    offsets = pa.py_buffer(np.array([0, 1, 2], np.int32))
    lying = pa.Array.from_buffers(
        pa.string(), 2, [None, offsets, pa.py_buffer(b"a\xff")]
    )
    assert read(lying, "string")[1] == {1: "column c: not UTF-8"}


def test_words_for_missing_are_nulls_in_every_kind() -> None:
    words = {"null_values": ("NA", "-")}
    array = text_of(["1", "NA", "-", ""])
    assert read(array, "string", **words) == (["1", None, None, None], {})
    assert read(array, "float", **words) == ([1.0, None, None, None], {})
    assert read(array, "int", **words) == ([1, None, None, None], {})


D = decimal.Decimal
DAY = datetime.date(2020, 1, 2)


@pytest.mark.parametrize(
    ("values", "type", "kind", "wanted"),
    [
        ([1, None], pa.int8(), "float", [1.0, None]),
        ([1.5, math.nan, None], pa.float64(), "float", [1.5, None, None]),
        ([np.float16(1.5)], pa.float16(), "float", [1.5]),
        ([True, False], pa.bool_(), "float", [1.0, 0.0]),
        ([D("1.25")], pa.decimal128(5, 2), "float", [1.25]),
        (["1", "2"], pa.dictionary(pa.int8(), pa.string()), "float", [1, 2]),
        (["1"], pa.large_string(), "float", [1.0]),
        ([3.0, None], pa.float64(), "int", [3, None]),
        ([7], pa.uint64(), "int", [7]),
        ([D("7.00")], pa.decimal128(5, 2), "int", [7]),
        ([1, None], pa.int64(), "string", ["1", None]),
        ([True, False], pa.bool_(), "string", ["1", "0"]),
        ([0.1, 2.0], pa.float32(), "string", ["0.1", "2"]),
        (
            [1e15, -1e10],
            pa.float64(),
            "string",
            ["1" + 15 * "0", "-1" + 10 * "0"],
        ),
        ([123.0, None, 0.1], pa.float64(), "string", ["123", None, "0.1"]),
        ([2.0**53 - 1], pa.float64(), "string", ["9007199254740991"]),
        ([1e20, 1e-7], pa.float64(), "string", ["1" + 20 * "0", "0.0000001"]),
        ([-0.0, math.nan], pa.float64(), "string", ["0", None]),
        ([1e10], pa.float32(), "string", ["1" + 10 * "0"]),
        ([D("1.50")], pa.decimal128(5, 2), "string", ["1.5"]),
        ([DAY], pa.date32(), "string", ["2020-01-02"]),
        ([b"ab"], pa.binary(2), "string", ["ab"]),
        (["a", None], pa.dictionary(pa.int32(), pa.string()), "string", None),
        ([None, None], pa.null(), "string", None),
        ([None, None], pa.null(), "float", None),
        ([None, None], pa.null(), "int", None),
    ],
)
def test_typed_columns(values: Any, type: Any, kind: str, wanted: Any) -> None:
    assert read(values, kind, type) == (wanted or values, {})


@pytest.mark.parametrize(
    ("values", "type", "kind", "refused"),
    [
        ([math.inf, 1.0], pa.float64(), "float", 0),
        ([1.0, 1e300], pa.float64(), "float", 1),
        ([1.0, 1.5], pa.float64(), "int", 1),
        ([1e300, 1.0], pa.float64(), "int", 0),
        ([1, 2**63], pa.uint64(), "int", 1),
        ([D("1.50"), D("1.00")], pa.decimal128(5, 2), "int", 0),
    ],
)
def test_typed_values_that_do_not_fit_are_refused(
    values: Any, type: Any, kind: str, refused: int
) -> None:
    found, reasons = read(values, kind, type)
    assert list(reasons) == [refused]
    assert found[1 - refused] == 1


@pytest.mark.parametrize(
    ("values", "type", "kind"),
    [
        ([{"x": 1}], None, "string"),
        ([{"x": 1}], None, "float"),
        ([[("k", 1)]], pa.map_(pa.string(), pa.int64()), "int"),
        ([1], pa.timestamp("s"), "float"),
        ([[[1]]], None, "float"),
    ],
)
def test_a_column_of_a_hopeless_type_is_an_error(
    values: Any, type: Any, kind: str
) -> None:
    with pytest.raises(InputError, match=r"column 'c' holds .*cannot be read"):
        read(values, kind, type)


@pytest.mark.parametrize(
    "make", [pa.list_, pa.large_list, lambda kind: pa.list_(kind, 1)]
)
def test_a_list_of_one_is_its_value(make: Any) -> None:
    assert read([["a"], None, ["b"]], "string", make(pa.string())) == (
        ["a", None, "b"],
        {},
    )
    assert read([[1], None, [2]], "float", make(pa.int64()))[0] == [1, None, 2]
    assert read([[1], None, [2]], "int", make(pa.int64()))[0] == [1, None, 2]


@pytest.mark.parametrize("kind", ["string", "float", "int"])
def test_a_list_of_several_is_refused_alone(kind: str) -> None:
    array = pa.array([[9], [5], [1, 2], [], None, [None], [3]]).slice(1)
    values, reasons = read(array, kind)
    cast = {"string": str, "float": float, "int": int}[kind]
    assert values == [cast(5), None, None, None, None, cast(3)]
    assert reasons == {1: "column c: several values instead of one"}


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([["a", "b"], ["c"], [], None], [["a", "b"], ["c"], None, None]),
        ([[1, 2], [None, 3]], [["1", "2"], ["3"]]),
        (
            [[1e15, None, 0.5], None, [2.0]],
            [["1000000000000000", "0.5"], None, ["2"]],
        ),
        ([[b"a", b"b"]], [["a", "b"]]),
        (["a|b", "c", None, "||"], [["a", "b"], ["c"], None, None]),
        ([["a", None, "b"], [None]], [["a", "b"], None]),
        ([["b", "a", "b"], ["", "z"]], [["b", "a", "b"], ["z"]]),
        (["true|4.0|1.50", "a||a"], [["1", "4", "1.50"], ["a", "a"]]),
        ([7, None], [["7"], None]),
        ([None, None], [None, None]),
        # An empty value keeps a lone one whole; see `item_lists.apart`.
        (
            [["a|b", "c"], ["|"], ["a"], ["a|b"]],
            [["a|b", "c"], ["|", ""], ["a"], ["a|b", ""]],
        ),
    ],
)
def test_the_values_of_a_list_stay_apart(values: Any, wanted: Any) -> None:
    assert read(values, "string", separator="|") == (wanted, {})
    # Also from the middle of a longer column.
    array = pa.array([values[0], *values]).slice(1)
    assert read(array, "string", separator="|") == (wanted, {})


def test_a_lone_value_of_an_example_is_a_text() -> None:
    lists = [["a|b"], ["a|b", "c"], ["a|b", ""], ["x"], [], None, ["|"]]
    found, reasons = read(lists, "string", separator="|", loose=True)
    whole = [["a", "b"], ["a|b", "c"], ["a|b", ""], ["x"], None, None, None]
    assert (found, reasons) == (whole, {})
    found, _ = read([["a||b", "c"], ["a||b"]], "string", separator="||")
    assert found == [["a||b", "c"], ["a||b", ""]]


@pytest.mark.parametrize("parsed", [False, True])
def test_a_missing_value_is_missing_in_a_list_too(parsed: bool) -> None:
    column = {"separator": "|", "null_values": ("NA", "-"), "parsed": parsed}
    texts = pa.array(["NA|a", "-|NA", "a|-|b", "NAN"])
    assert read(texts, "string", **column)[0] == [
        ["a"],
        None,
        ["a", "b"],
        ["NAN"],
    ]
    lists = [["NA", "a"], ["-"], [None, "", "b"]]
    assert read(lists, "string", **column)[0] == [["a"], None, ["b"]]


def test_a_null_in_a_list_is_no_second_value() -> None:
    lists = pa.array([[None, 3], [3, None, 4], [None]])
    assert read(lists, "int") == (
        [3, None, None],
        {1: "column c: several values instead of one"},
    )


def test_bytes_in_a_list_that_are_not_utf8_are_refused() -> None:
    values = [[b"a"], [b"b", b"\xff"], None, [b"c", b"d"]]
    found, reasons = read(values, "string", separator="|")
    assert (found[0], found[2:]) == (["a"], [None, ["c", "d"]])
    assert reasons == {1: "column c: not UTF-8"}
