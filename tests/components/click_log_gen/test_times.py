"""Event times: every usual way to write one, alone and mixed."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.click_log_gen.columns.event_time import event_time
from components.click_log_gen.columns.rows import Column, Verdicts

UTC = datetime.UTC
NOON = datetime.datetime(2020, 1, 2, 12, 30, 5, 250_000, tzinfo=UTC)
WAYS = {
    "2020-01-02T12:30:05.25": 0,
    "2020-01-02 12:30:05.250": 0,
    "2020-01-02T12:30:05.250000Z": 0,
    "2020-01-02 12:30:05.250000+00:00": 0,
    "2020-01-02T21:30:05.25+09:00": 0,
    "2020-01-02T21:30:05.25+0900": 0,
    "2020-01-02T07:30:05.25-05": 0,
    "2020-01-02T12:30:05.250000999": 0,
    "2020-01-02T12:30:05.250000999Z": 0,
    " 2020-01-02T12:30:05.25Z ": 0,
    "1577968205.25": 0,
    "1577968205250": 0,
    "1577968205250000": 0,
    "1577968205250000000": 0,
    "2020-01-02T12:30:05": -250_000,
    "1577968205": -250_000,
    "2020-01-02T12:30": -5_250_000,
    "2020-01-02T12": -1_805_250_000,
    "2020-01-02": -45_005_250_000,
}
BARE = "20200102"
NO_TIMES = [
    "x",
    "2020-13-01",
    "2020-06-31",
    "2020-01-02T25:00",
    "2020-01-02T12:30:05+99:00",
    BARE,
    "2020/01/02",
    "2020-01-02 noon",
    "inf",
    "nan",
    "1e30",
    "01:02:03",
]


def micros(moment: datetime.datetime) -> int:
    return (moment - datetime.datetime(1970, 1, 1, tzinfo=UTC)) // (
        datetime.timedelta(microseconds=1)
    )


def read(values: Any, type: Any = None) -> tuple[list[int], dict[int, str]]:
    array = values if isinstance(values, pa.Array) else pa.array(values, type)
    verdicts = Verdicts.none(len(array))
    times = event_time(array, Column("t"), verdicts)
    return times.tolist(), verdicts.reasons


def reference(text: str) -> int:
    """The time that WAYS says `text` means."""
    return micros(NOON) + WAYS[text]


@pytest.mark.parametrize("text", WAYS)
def test_times_in_text(text: str) -> None:
    assert read([text]) == ([reference(text)], {})


@pytest.mark.parametrize("text", [t for t in NO_TIMES if t != BARE])
def test_what_is_no_time_is_refused(text: str) -> None:
    for values in ([text], ["2020-01-02T12:30:05.25Z", text], ["7", text]):
        times, reasons = read(values)
        assert list(reasons) == [len(values) - 1]
        assert "column t: not a time (ISO 8601" in reasons[len(values) - 1]
        if len(values) > 1:
            assert times[0] in (micros(NOON), 7 * 10**6)


@pytest.mark.parametrize("bare", [19000101, 20240229, 20251101, 21001231])
def test_a_date_without_dashes_is_refused(bare: int) -> None:
    said = (
        "column t: looks like a date without dashes; write 20251101 as"
        " 2025-11-01"
    )
    for kind in (pa.int32(), pa.int64(), pa.float64()):
        assert read([7, bare, None], kind)[1] == {
            1: said,
            2: "column t: no time",
        }
    for text in (str(bare), f" {bare} "):
        assert read([text, "2020-01-02"])[1] == {0: said}
        assert read(["7", text])[1] == {1: said}


@pytest.mark.parametrize(
    "text", ["20250229", "20251301", "20250100", "18991231"]
)
def test_other_eight_digits_are_seconds(text: str) -> None:
    wanted = ([int(text) * 10**6], {})
    assert read([text]) == read([int(text)]) == wanted
    assert read([float(text) + 0.5])[1] == read(["20251101.5"])[1] == {}


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from([*WAYS, *NO_TIMES, "", None]), max_size=12))
def test_any_mixture_reads_as_each_value_alone(texts: list[Any]) -> None:
    alone = [read(pa.array([text], pa.string())) for text in texts]
    times, reasons = read(pa.array(texts, pa.string()))
    assert times == [time for (time,), _ in alone]
    assert reasons == {
        index: found[0] for index, (_, found) in enumerate(alone) if found
    }


def test_missing_is_told_from_wrong() -> None:
    _, reasons = read(["", None, "x"])
    assert reasons[0] == reasons[1] == "column t: no time"
    assert "not a time" in reasons[2]
    assert read([1.0, None, np.nan])[1] == {
        1: "column t: no time",
        2: "column t: no time",
    }


@settings(deadline=None, max_examples=200)
@given(
    st.datetimes(
        datetime.datetime(1974, 1, 1),
        datetime.datetime(2200, 1, 1),
        timezones=st.sampled_from(
            [
                None,
                UTC,
                datetime.timezone(datetime.timedelta(hours=5, minutes=30)),
                datetime.timezone(datetime.timedelta(hours=-8)),
            ]
        ),
    ),
    st.booleans(),
)
def test_any_moment_survives(moment: datetime.datetime, mixed: bool) -> None:
    wanted = micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    beside = ["x", "2020-01-01", "2020-01-01T00Z", "5"] * mixed
    for text in (moment.isoformat(), str(moment), str(wanted)):
        assert read([text, *beside])[0][0] == wanted
    assert read([wanted])[0] == [wanted]
    assert read([wanted // 1000])[0] == [wanted // 1000 * 1000]
    seconds = wanted // 10**6
    assert read([float(seconds)])[0] == [seconds * 10**6]
    # 64 bits hold a second since 1970 to about a quarter of a microsecond.
    assert abs(read([repr(wanted / 1e6)])[0][0] - wanted) <= 1


@pytest.mark.parametrize(
    ("values", "type"),
    [
        ([NOON], pa.timestamp("us")),
        ([NOON], pa.timestamp("ns", "UTC")),
        ([NOON], pa.timestamp("ms", "Asia/Tokyo")),
        (["2020-01-02T12:30:05.25Z"], pa.dictionary(pa.int8(), pa.string())),
        (["2020-01-02T12:30:05.25Z"], pa.large_string()),
        ([b"2020-01-02T12:30:05.25Z"], pa.binary()),
        ([["2020-01-02T12:30:05.25Z"]], pa.list_(pa.string())),
        ([1577968205250], pa.int64()),
        ([[1577968205250]], pa.list_(pa.int64())),
        ([1577968205.25], pa.float64()),
        ([1577968205250], pa.uint64()),
    ],
)
def test_typed_times(values: Any, type: Any) -> None:
    assert read(values, type) == ([micros(NOON)], {})


def test_dates_are_midnight() -> None:
    values, reasons = read([NOON.date(), None], pa.date32())
    assert (
        values[0] == micros(NOON.replace(hour=0, minute=0, second=0)) - 250000
    )
    assert reasons == {1: "column t: no time"}


def test_times_before_1970_are_negative() -> None:
    assert read(["1969-12-31T23:59:59Z"])[0] == [-1_000_000]
    assert read(["-1", "x"])[0][0] == -1_000_000
    assert read([-1])[0] == [-1_000_000]
