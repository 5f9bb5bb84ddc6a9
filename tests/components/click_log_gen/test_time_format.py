"""Formats and zones of event times, against datetime and zoneinfo."""

from __future__ import annotations

import datetime
import itertools
import zoneinfo
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from components.click_log_gen.columns import time_parse
from models.config import time_format
from models.config.event_time import TimeColumn
from models.preprocessing import time_zones
from tests.components.click_log_gen.test_times import micros, read

UTC = datetime.UTC
FORMATS = [
    "%Y%m%d",
    "%y%m%d%H",
    "%Y%m%d%H",
    "%Y%m%d%H%M%S",
    "%Y%m%d%H%M%S%f",
    "%d%m%Y",
    "%Y%j",
    "%Y-%m-%d %H:%M:%S",
    "%Y/%m/%d %H:%M:%S.%f",
    "%d.%m.%y %H:%M",
    "%m/%d/%Y %I:%M:%S %p",
    "%d/%b/%Y:%H:%M:%S %z",
    "%A, %d %B %Y  %H%M%S%z",
    "%a %b %d %H:%M:%S %Z %Y",
    "%Y-%m-%dT%H:%M:%S,%f [x] 100%%",
]
MOMENTS = st.datetimes(
    datetime.datetime(1990, 1, 1), datetime.datetime(2036, 12, 31)
).map(lambda moment: moment.replace(fold=0))


def parse(values: list[Any], format: str, zone: str | None = None) -> list[Any]:
    """Microseconds, or None."""
    found = time_parse.micros(
        pa.array(values, pa.string()), time_format.parse(format), zone
    )
    return found.to_pylist()


def truth(text: str | None, format: str) -> int | None:
    """Python's answer, in UTC where there is no zone."""
    if text is None:
        return None
    try:
        moment = datetime.datetime.strptime(text, format)
    except ValueError:
        return None
    return micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


@settings(deadline=None, max_examples=200)
@given(
    moments=st.lists(MOMENTS, min_size=1, max_size=6),
    format=st.sampled_from(FORMATS),
    other=st.sampled_from([None, "x", ""]),
    alike=st.booleans(),
)
def test_what_strftime_writes_is_read_as_strptime_does(
    moments: list[datetime.datetime],
    format: str,
    other: str | None,
    alike: bool,
) -> None:
    zoned = [moment.replace(tzinfo=UTC) for moment in moments]
    texts: list[Any] = [moment.strftime(format) for moment in zoned]
    texts += [] if alike else [other]
    assert parse(texts, format) == [truth(text, format) for text in texts]


@settings(deadline=None, max_examples=400)
@given(
    moment=MOMENTS,
    format=st.sampled_from([f for f in FORMATS if "%f" not in f]),
    at=st.integers(0, 40),
    piece=st.text("0123456789 :/-+.ZTamp%", max_size=2),
    cut=st.integers(0, 2),
)
def test_a_changed_text_is_read_as_python_does_or_refused(
    moment: datetime.datetime, format: str, at: int, piece: str, cut: int
) -> None:
    text = moment.replace(tzinfo=UTC).strftime(format)
    text = text[:at] + piece + text[at + cut :]
    wide = time_format.parse(format).width
    if time_format.parse(format).digits_only and text.strip().isdigit():
        text = text.strip().zfill(wide or 0)
    for values in ([text], [text, "x"]):
        found = parse(values, format)[0]
        assert found is None or found == truth(text.strip(), format)


def test_digits_that_touch_are_never_guessed() -> None:
    # 11 January to Python; the day may be the 1st as well.
    assert truth("1112014", "%d%m%Y") == micros(
        datetime.datetime(2014, 1, 11, tzinfo=UTC)
    )
    # As a number that lost its zero it is the 1st of November.
    wanted = micros(datetime.datetime(2014, 11, 1, tzinfo=UTC))
    assert parse(["1112014", "01112014"], "%d%m%Y") == [wanted, wanted]
    assert parse(["2014111 07:00"], "%Y%m%d %H:%M") == [None]
    assert parse(["2014-1-1 7:00"], "%Y-%m-%d %H:%M") == [
        micros(datetime.datetime(2014, 1, 1, 7, tzinfo=UTC))
    ]


def test_numbers_get_the_zeros_back_that_they_lost() -> None:
    wanted = micros(datetime.datetime(2005, 1, 5, tzinfo=UTC))
    for values in ([5010500], ["05010500"], [5010500.0], [[5010500]]):
        assert read(values, time={"format": "%y%m%d%H"}) == ([wanted], {})


@pytest.mark.parametrize("digits", range(1, 10))
def test_fractions_have_up_to_nine_digits(digits: int) -> None:
    part = "123456789"[:digits]
    wanted = micros(datetime.datetime(2013, 6, 6, 0, 1, 4, tzinfo=UTC))
    wanted += int(part.ljust(9, "0")) // 1000
    for before, format in (
        ("20130606000104", "%Y%m%d%H%M%S%f"),
        ("2013-06-06 00:01:04,", "%Y-%m-%d %H:%M:%S,%f"),
    ):
        assert parse([before + part], format) == [wanted]
        assert parse([before + part, "x"], format) == [wanted, None]


def test_a_float_is_not_trusted_with_more_digits_than_it_holds() -> None:
    time = {"format": "%Y%m%d%H%M%S%f"}
    assert list(read([20130606000104192.0], time=time)[1]) == [0]
    assert read([20130606000104192], time=time)[1] == {}


ZONES = [
    "Europe/Berlin",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "America/Sao_Paulo",
    "Asia/Pyongyang",
    "Etc/GMT-8",
]


@settings(deadline=None, max_examples=100)
@given(st.lists(MOMENTS, min_size=1, max_size=15), st.sampled_from(ZONES))
def test_local_times_are_those_of_zoneinfo(
    moments: list[datetime.datetime], zone: str
) -> None:
    rules = zoneinfo.ZoneInfo(zone)
    wanted = [micros(moment.replace(tzinfo=rules)) for moment in moments]
    assert parse([str(m) for m in moments], "%Y-%m-%d %H:%M:%S.%f", zone) == [
        found if moment.microsecond else None
        for found, moment in zip(wanted, moments, strict=True)
    ]
    inside = [m.replace(microsecond=1) for m in moments if m.year < 2036]
    inside = [m for m in inside if m.year > 1990]
    wanted = [micros(moment.replace(tzinfo=rules)) for moment in inside]
    for kind in (pa.string(), pa.timestamp("us")):
        values = inside if kind != pa.string() else [str(m) for m in inside]
        array = pa.array(values, kind)
        assert read(array, time={"zone": zone}) == (wanted, {})


@pytest.mark.parametrize("zone", ZONES)
def test_every_change_of_the_clocks_is_that_of_zoneinfo(zone: str) -> None:
    rules = zoneinfo.ZoneInfo(zone)
    borders = time_zones.changes(zone).walls
    for border, step in itertools.product(
        borders.tolist(), (-7200, -3601, -3600, -1, 0, 1, 1800, 3600)
    ):
        start = datetime.datetime(1970, 1, 1)
        moment = start + datetime.timedelta(seconds=border + step)
        if moment.year < 2090:
            local = pa.array(
                [(moment - start) // datetime.timedelta.resolution]
            )
            (found,) = time_zones.utc(local.to_numpy(), zone).tolist()
            assert found == micros(moment.replace(tzinfo=rules)), moment


def test_hours_that_a_clock_shows_twice_or_skips() -> None:
    zone = {"zone": "Europe/Berlin"}
    values = ["2024-10-27T02:30", "2024-03-31T02:30", "2024-03-31T02:30+01:00"]
    wanted = ["2024-10-27T00:30Z", "2024-03-31T01:30Z", "2024-03-31T01:30Z"]
    assert read(values, time=zone) == read(wanted)


def test_a_zone_does_not_move_times_that_say_theirs() -> None:
    values = ["2024-07-01T12:00Z", "2024-07-01 12:00:00 UTC", "1719835200"]
    assert read(values, time={"zone": "Asia/Tokyo"}) == read(values)
    array = pa.array([1719835200], pa.timestamp("s", "UTC"))
    assert read(array, time={"zone": "Asia/Tokyo"}) == read(array)
    format = {"format": "%Y %m %d %H %Z", "zone": "Asia/Tokyo"}
    assert read(["2024 07 01 12 UTC"], time=format) == read([1719835200])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "%Y-%m"}, ["no full day", "'%Y-%m'", "%d"]),
        ({"format": "%H:%M"}, ["no full day"]),
        ({"format": "%Y%m%d%s"}, ["%s is none of its codes", "seconds"]),
        ({"format": "yyyy-MM-dd"}, ["no full day", "strptime's codes %Y"]),
        ({"format": "%Y%m%d%"}, ["none of its codes"]),
        ({"format": "%Y%y%m%d"}, ["%Y and %y say the same"]),
        ({"format": "%Y%Y%m%d"}, ["%Y is there twice"]),
        ({"format": "%Y%m%d %I"}, ["%I", "%p", "go together"]),
        ({"format": "%Y%m%d %H %p"}, ["%p", "go together"]),
        ({"format": "%Y%m%d %M"}, ["%M without %H"]),
        ({"format": ""}, ["no full day"]),
        ({"zone": "Europe/Berln"}, ["did you mean 'Europe/Berlin'?", "IANA"]),
        ({"zone": "+08:00"}, ["IANA name", "Etc/GMT-8"]),
        ({"zone": "../zone"}, ["IANA name"]),
        ({"zone": "Europe"}, ["IANA name"]),
        ({"format": "seconds", "zone": "Asia/Tokyo"}, ["counts in UTC"]),
    ],
)
def test_wrong_formats_and_zones_name_what_is_accepted(
    options: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(ValidationError) as error:
        TimeColumn.model_validate({"column": "t", **options})
    for word in words:
        assert word in str(error.value)
