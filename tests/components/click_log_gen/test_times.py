"""Event times: every usual way to write one, alone and mixed."""

from __future__ import annotations

import datetime
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.click_log_gen.columns.event_time import event_time
from components.click_log_gen.columns.rows import Column, Verdicts
from models.config.event_time import TimeColumn, last_year

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
    "2020-01-02 12:30:05.25 UTC": 0,
    "2020-01-02 12:30:05.250000 UTC": 0,
    "2020-01-02T12:30:05.250000999Z": 0,
    " 2020-01-02T12:30:05.25Z ": 0,
    "1577968205.25": 0,
    "1577968205250.0": 0,
    "0001577968205250": 0,
    "1577968205250": 0,
    "1577968205250000": 0,
    "1577968205250000000": 0,
    "2020-01-02T12:30:05": -250_000,
    "1577968205": -250_000,
    "2020-01-02T12:30": -5_250_000,
    "2020-01-02T12": -1_805_250_000,
    "2020-01-02": -45_005_250_000,
}
NO_TIMES = [
    "x",
    "2020-13-01",
    "2020-06-31",
    "2020-01-02T25:00",
    "2020-01-02T12:30:05+99:00",
    "2020-01-02 noon",
    "2020-01-02 UTC",
    "inf",
    "nan",
    "1e30",
    "01:02:03",
    "0x5E0DE3CD",
]
FORMATS = {  # what is refused -> the format to try
    "20200102": "%Y%m%d",
    "14102100": "%y%m%d%H",
    "2014102100": "%Y%m%d%H",
    "2014102100123": None,
    "201410210030": "%Y%m%d%H%M",
    "20130606000104": "%Y%m%d%H%M%S",
    "20130606000104192": "%Y%m%d%H%M%S%f",
    "2014/10/21": "%Y/%m/%d",
    "2014/10/21 00:00:00": "%Y/%m/%d %H:%M:%S",
    "2024-01-01 12:00:00,123": "%Y-%m-%d %H:%M:%S,%f",
    "10/Oct/2000:13:55:36 -0700": "%d/%b/%Y:%H:%M:%S %z",
    "2024-01-01T12:00:00+00:00[UTC]": "%Y-%m-%dT%H:%M:%S%z[UTC]",
    "21.10.2014 08:00": "%d.%m.%Y %H:%M",
    "10/21/2014": "%m/%d/%Y",
    "21/10/2014": "%d/%m/%Y",
    "Tue Oct 21 08:00:00 2014": "%a %b %d %H:%M:%S %Y",
    "7": None,
    "20250229": None,
    "9223372036854775807": None,
    "-1": None,
    "253402300799": None,
}


def micros(moment: datetime.datetime) -> int:
    return (moment - datetime.datetime(1970, 1, 1, tzinfo=UTC)) // (
        datetime.timedelta(microseconds=1)
    )


def read(
    values: Any, type: Any = None, time: Any = None
) -> tuple[list[int], dict[int, str]]:
    written = TimeColumn.model_validate({"column": "t", **(time or {})})
    array = values if isinstance(values, pa.Array) else pa.array(values, type)
    verdicts = Verdicts.none(len(array))
    times = event_time(array, Column("t"), verdicts, written)
    return times.tolist(), verdicts.reasons


@cache
def read_alone(text: str | None) -> tuple[list[int], dict[int, str]]:
    """The time of one text; to explain a wrong one takes long."""
    return read(pa.array([text], pa.string()))


def reference(text: str) -> int:
    """The time that WAYS says `text` means."""
    return micros(NOON) + WAYS[text]


@pytest.mark.parametrize("text", WAYS)
def test_times_in_text(text: str) -> None:
    assert read([text]) == ([reference(text)], {})


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_is_no_time_is_refused(text: str) -> None:
    for values in ([text], ["2020-01-02T12:30:05.25Z", text]):
        times, reasons = read(values)
        assert list(reasons) == [len(values) - 1]
        assert "column t: not a time" in reasons[len(values) - 1]
        if len(values) > 1:
            assert times[0] == micros(NOON)


@pytest.mark.parametrize(("text", "format"), FORMATS.items())
def test_calendar_times_are_refused_with_a_format_that_reads_them(
    text: str, format: str | None
) -> None:
    arrays = [pa.array([text]), pa.array([text, "2020-01-02"])]
    if text.lstrip("-").isdigit():
        arrays += [pa.array([int(text)]), pa.array([[int(text)]])]
        if len(text) < 16:
            arrays.append(pa.array([float(text)]))
    for array in arrays:
        (reason,) = read(array)[1].values()
        if format is None:
            assert "not a time of 1990 to 20" in reason
            assert "since 1970; give data.time.format" in reason
        else:
            assert reason == (
                "column t: not a time as it stands; give data.time.format,"
                f' such as "{format}"'
            )
            _, reasons = read(array[:1], time={"format": format})
            assert reasons == {}


@pytest.mark.parametrize("outside", ["1969-12-31", "1989-12-31", "9999-12-31"])
def test_times_that_nobody_logs_are_refused_in_every_type(outside: str) -> None:
    said = f"column t: a time outside 1990 to {last_year()}"
    moment = datetime.datetime.fromisoformat(outside)
    for unit in ("s", "ms", "us"):
        for zone in (None, "UTC", "Asia/Tokyo"):
            found = read([moment, NOON], pa.timestamp(unit, zone))[1]
            assert found == {0: said}
    assert read([moment.date()], pa.date32())[1] == {0: said}
    assert read([2**62, 0], pa.timestamp("s"))[1] == {0: said, 1: said}
    assert read([outside])[1] == read([f"{outside} 10:00"])[1] == {0: said}
    found = read([outside], time={"format": "%Y-%m-%d"})[1]
    assert found == {0: said}


def test_the_first_and_the_last_day_that_are_believed() -> None:
    last = last_year()
    for text in ("1990-01-01", f"{last}-12-31T23:59:59.999999Z"):
        assert read([text])[1] == {}
    for seconds in (631_152_000, 631_152_000_000, 881_250_949):
        assert read([seconds])[1] == {}
    assert 0 in read([631_151_999])[1]
    assert 0 in read([f"{last + 1}-01-01"])[1]


@pytest.mark.parametrize(
    ("unit", "per"),
    [("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6)]
    + [("nanoseconds", 10**9)],
)
def test_a_named_unit_counts_from_any_start(unit: str, per: int) -> None:
    for seconds in (0, 7, -60, 2014102100, 14102100):
        for value in (seconds * per, str(seconds * per)):
            found = read([value, None], time={"format": unit})
            assert found[0][0] == seconds * 10**6
            assert list(found[1]) == [1]
    assert read(["1.5"], time={"format": "seconds"})[0] == [1_500_000]
    assert read([1.5], time={"format": "seconds"})[0] == [1_500_000]
    for wrong in (2**62, 1e300, "1e300", str(2**70), "x", "inf"):
        assert list(read([wrong], time={"format": "seconds"})[1]) == [0]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.sampled_from([*WAYS, *NO_TIMES, *FORMATS, "", None]), max_size=12
    )
)
def test_any_mixture_reads_as_each_value_alone(texts: list[Any]) -> None:
    alone = [read_alone(text) for text in texts]
    times, reasons = read(pa.array(texts, pa.string()))
    assert times == [time for (time,), _ in alone]
    assert reasons == {
        index: found[0] for index, (_, found) in enumerate(alone) if found
    }


def test_missing_is_told_from_wrong() -> None:
    _, reasons = read(["", None, "x"])
    assert reasons[0] == reasons[1] == "column t: no time"
    assert "not a time" in reasons[2]
    assert read([1.6e9, None, np.nan])[1] == {
        1: "column t: no time",
        2: "column t: no time",
    }


@settings(deadline=None, max_examples=200)
@given(
    st.datetimes(
        datetime.datetime(1990, 1, 2),
        datetime.datetime(2032, 12, 31),  # later look like calendar hours
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
    texts = [moment.isoformat(), str(moment), str(wanted)]
    if mixed:
        beside = ["x", "2020-01-01", "2020-01-01T00Z", "1600000000"]
        assert read([*texts, *beside])[0][:3] == [wanted] * 3
    else:
        assert [read([text])[0] for text in texts] == [[wanted]] * 3
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
