"""Features of the time: the graph against zoneinfo and the ingest."""

from __future__ import annotations

import datetime
import random
import zoneinfo
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from components.click_log_gen.columns.event_time import event_time, text_of
from components.click_log_gen.columns.rows import Column, Verdicts
from models.config.event_time import TimeColumn
from models.config.features import Features
from models.config.time_features import SIZES, TimeFeatures
from models.preprocessing import time_parts, time_text, time_zones
from models.preprocessing.id_space import Keys, keys_of, match
from models.preprocessing.input_layout import layout

ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # half an hour
    "Africa/Casablanca",  # four changes a year
    "Asia/Kolkata",
    "America/Sao_Paulo",  # no longer
    "UTC",
)
UTC = datetime.UTC
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)


def features(**more: Any) -> TimeFeatures:
    given = {"of": list(SIZES), "source": {"column": "t"}}
    return TimeFeatures.model_validate(given | more)


def by_python(moment: datetime.datetime) -> dict[str, int]:
    weekday = moment.weekday()
    return {
        "t_hour": 1 + moment.hour,
        "t_weekday": 1 + weekday,
        "t_hour_of_week": 1 + 24 * weekday + moment.hour,
        "t_is_weekend": 1 + (weekday >= 5),
        "t_day_of_month": moment.day,
        "t_month": moment.month,
    }


def moments(zone: str, count: int = 400) -> list[datetime.datetime]:
    """Random times, most of them within a day of a change of the clock."""
    draw = random.Random(zone)
    changes = [EPOCH.timestamp()]
    if zone != "UTC":
        changes += time_zones.changes(zone).moments.tolist()
    changes = [c for c in changes if 631_152_000 < c < 2_000_000_000]
    changes = changes or [1e9]
    found = []
    for number in range(count):
        near = draw.choice(changes) + draw.randint(-90_000, 90_000)
        far = draw.randint(631_152_000, 2_000_000_000)
        found.append(near if number % 4 else far)
    found += [second + step for second in changes for step in (-1, 0, 1)]
    return [datetime.datetime.fromtimestamp(s, UTC) for s in found]


@pytest.mark.parametrize("zone", ZONES)
def test_parts_are_those_of_zoneinfo(zone: str) -> None:
    times = moments(zone)
    text = tf.constant([t.strftime("%Y-%m-%dT%H:%M:%SZ") for t in times])
    graph = tf.function(lambda text: time_parts.ids(text, features(zone=zone)))
    found = graph(text)
    wanted = [by_python(t.astimezone(zoneinfo.ZoneInfo(zone))) for t in times]
    for name, ids in found.items():
        assert ids.dtype == tf.int64
        assert ids.numpy().tolist() == [row[name] for row in wanted], name


def test_clock_is_that_of_the_time_by_default() -> None:
    source = {"column": "t", "zone": "Asia/Kolkata"}
    text = tf.constant(["2024-03-01 02:00:00", "2024-03-01T02:00:00Z"])
    found = time_parts.ids(text, features(source=source))
    assert found["t_hour"].numpy().tolist() == [1 + 2, 1 + 7]
    found = time_parts.ids(text, features(source=source, zone="UTC"))
    assert found["t_hour"].numpy().tolist() == [1 + 20, 1 + 2]


ISO = (
    "2024-02-29", "2023-02-29", "2024-02-30", "2024-13-01", "2024-00-10",
    "2024-06-01 05", "2024-06-01T05:07", "2024-06-01 05:07:09",
    "2024-06-01T05:07:09.123456789", "2024-06-01T24:00:00", "2024-06-01 05:61",
    "2024-06-01T05:07:09Z", "2024-06-01T05:07:09+02:00",
    "2024-06-01 05:07-0930",
    "2024-06-01 05:07:09.5+05", "2024-06-01 05:07:09 UTC", "2024-06-01 05+02",
    "2024-06-01T05:07:09+25:00", " 2024-06-01T05:07:09Z ",
    "1989-12-31T23:59:59Z",
    "1990-01-01T00:00:00Z", "2090-01-01", "2024-06-01T05:07:09z",
    "2024-06-01T5:07", "20240601", "June 1", "", "nan", "2024-06-01T05:07:09X",
    "2024-03-31 02:30:00", "2024-10-27 02:30:00",
    "1717218429", "1717218429.75", "1717218429123", "1717218429123456",
    "1717218429123456789", "1.717218429e9", "2024060105", "17", "-5", "0",
    "01717218429", "1e300", "631152000", "631151999",
)  # fmt: skip
FORMATS = {
    "seconds": ("0", "12", "-7", "1717218429", "3.25", "1e5", "x", "", "1e40"),
    "milliseconds": ("1717218429123", "-1", "1500", "2.5", "1e3"),
    "nanoseconds": ("1717218429123456789", "999999999"),
    "%Y%m%d%H": ("2024060105", "2024023001", "2024060124", "202406010"),
    "%y%m%d%H": ("07010203", "7010203", "99123123", "00010100"),
    "%Y%m%d": ("20240229", "20230229", "20240229.0"),
    "%Y%j": ("2024366", "2023366", "2024001", "2024000"),
    "%d/%m/%Y %H:%M": (
        "1/2/2024 3:04", "31/04/2024 00:00", "01/02/2024 03:04x",
    ),
    "%m/%d/%Y %I:%M:%S %p": ("2/1/2024 12:05:06 AM", "02/01/2024 1:05:06 pm"),
    "%d/%b/%Y:%H:%M:%S %z": (
        "01/Jun/2024:05:07:09 +0200",
        "01/JUN/2024:05:07:09 -09:30",
        "01/Foo/2024:05:07:09 +0200",
        "01/Jun/2024:05:07:09 +2500",
    ),
    "%a, %d %B %Y %H:%M:%S %Z": ("Sat, 01 June 2024 05:07:09 GMT",),
    "%Y-%m-%d %H:%M:%S.%f": ("2024-03-31 02:30:00.25", "2024-10-27 02:30:00.5"),
    "%Y%m%d%H%M%S%f": ("20240601050709123456", "2024060105070912"),
}  # fmt: skip


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize("format", [None, *FORMATS])
def test_text_means_what_it_means_to_the_ingest(
    format: str | None, zone: str | None
) -> None:
    time = TimeColumn(column="t", format=format)
    if time.unit is None:
        time = TimeColumn(column="t", format=format, zone=zone)
    texts = list(ISO if format is None else FORMATS[format])
    if format is not None and time.unit is None:
        draw = random.Random(format)
        for moment in moments("Europe/Berlin", 40):
            # Python's %f and %Z have one form; the rest varies above.
            texts.append(moment.strftime(format).strip())
            if draw.random() < 0.3:
                cut = draw.randrange(len(texts[-1]))
                texts.append(texts[-1][:cut] + texts[-1][cut + 1 :])
    verdicts = Verdicts.none(len(texts))
    micros = event_time(pa.array(texts), Column("t"), verdicts, time)
    known = verdicts.good
    graph = tf.function(lambda text: time_text.seconds(text, time))
    found = graph(tf.constant(texts))
    read = found.good.numpy()
    assert read.any()
    wrong = [t for t, a, b in zip(texts, known, read, strict=True) if a != b]
    # The graph always takes ISO 8601 with a zone.
    assert not [text for text in wrong if not text.strip().endswith("Z")]
    assert (
        found.values.numpy()[known].tolist()
        == (micros[known] // 10**6).tolist()
    )


def test_what_the_ingest_writes_is_read(tmp_path: Any) -> None:
    times = np.array(
        [0, 1, 10**6, 1_717_218_420_000_000, 1_717_218_400_250_000]
    )
    texts = text_of(times).to_pylist()
    assert texts[0] == "1970-01-01T00:00:00Z"
    assert texts[3:] == ["2024-06-01T05:07:00Z", "2024-06-01T05:06:40.25Z"]
    for format in (None, "seconds", "%Y%m%d"):
        time = TimeColumn(column="t", format=format)
        found = time_text.seconds(tf.constant(texts[3:]), time)
        assert found.values.numpy().tolist() == [1_717_218_420, 1_717_218_400]


def test_missing_time_is_missing_or_now() -> None:
    text = tf.constant(["", "never", "2024-06-01T05:00:00Z"])
    found = time_parts.ids(text, features())
    assert found["t_hour"].numpy().tolist() == [0, 0, 6]
    before = datetime.datetime.now(UTC)
    found = time_parts.ids(text, features(now=True))
    after = datetime.datetime.now(UTC)
    first, *rest = zip(
        *(found[name].numpy().tolist() for name in ("t_hour", "t_month")),
        strict=True,
    )
    assert first in {(t.hour + 1, t.month) for t in (before, after)}
    assert rest == [(0, 0), (6, 6)]


def test_ids_are_laid_out_and_carried_from_day_to_day() -> None:
    def made(zone: str) -> dict[str, Keys]:
        given = features(of=["hour", "month"], zone=zone, dim=4)
        config = Features(
            numeric=({"name": "x"},),  # type: ignore[arg-type]
            time=given,
            crosses=({"of": ["t_hour", "t_month"]},),  # type: ignore[arg-type]
        )
        shape = layout(config, lambda name: 0)
        sizes = {f.name: f.size for f in shape.ids}
        assert sizes["t_hour"] == 25 and sizes["t_month"] == 13
        assert {f.dim for f in shape.single[:2]} == {4}
        return keys_of(config, sizes)

    old, new = made("UTC"), made("Asia/Tokyo")
    for name in ("t_hour", "t_hour_x_t_month"):
        same = match(old[name], old[name], lambda: (None, None))
        assert same.counts["new"] == 0
        other = match(old[name], new[name], lambda: (None, None))
        assert other.counts["kept"] == 0
