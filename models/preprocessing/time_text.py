"""Text of times to seconds since 1970, in the exported graph.

The rules are the ingest's: `components/click_log_gen/columns/event_time.py`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from models.config import time_format
from models.config.event_time import FIRST_YEAR, TimeColumn, last_year
from models.preprocessing import time_zones

_ISO = (
    r"\d{4}-\d\d-\d\d([ T]\d\d(:\d\d(:\d\d(\.\d+)?)?)?"
    r"( UTC|Z|[+-]\d\d(:?\d\d)?)?)?"
)
_HEAD = r"\A.{10}([ T][\d:.]*)?"  # of ISO 8601: all but the zone
_FRACTION = r"\A(-?(?:0|[1-9]\d*))\.0+\z"  # to the ingest 4.0 is 4
_WHOLE = r"[1-9]\d{0,17}|[12]\d{18}"
_SIGNED = r"-?\d{1,18}"
_FLOAT = r"(?i:[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)"
_PER_SECOND = (1, 10**3, 10**6, 10**9)
_MICRO = 10**6
_DAY = 86_400


class Seconds(NamedTuple):
    """Seconds since 1970 in UTC, int64 [N], and which rows have a time."""

    values: tf.Tensor
    good: tf.Tensor


def seconds(text: tf.Tensor, time: TimeColumn) -> Seconds:
    """Times of rows, string [N].

    ISO 8601 with a zone is read besides what `time` says: ingest writes it.
    Years that the ingest does not believe give no time.
    """
    text = tf.strings.regex_replace(text, _FRACTION, r"\1")
    text = tf.strings.strip(text)
    readers: list[Callable[[tf.Tensor], Seconds]] = [
        lambda some: _iso(some, time.zone, naive=time.format is None)
    ]
    if time.unit is not None:
        readers.append(lambda some: _counted(some, time.unit or 1))
    elif time.format is not None:
        format = time_format.parse(time.format)
        readers.append(lambda some: _formatted(some, format, time.zone))
    else:
        readers.append(_since_1970)
    found = _nothing(text)
    for read in readers:
        # Each reader sees what those before it could not read.
        at = tf.where(~found.good)
        some = read(tf.gather_nd(text, at))
        found = Seconds(
            tf.tensor_scatter_nd_update(found.values, at, some.values),
            tf.tensor_scatter_nd_update(found.good, at, some.good),
        )
    low, high = (_new_year(year) for year in (FIRST_YEAR, last_year() + 1))
    low = low if time.unit is None else -high
    good = found.good & (found.values >= low) & (found.values < high)
    return Seconds(found.values * tf.cast(good, tf.int64), good)


def _new_year(year: int) -> int:
    return int(datetime.datetime(year, 1, 1, tzinfo=datetime.UTC).timestamp())


def _nothing(text: tf.Tensor) -> Seconds:
    zeros = tf.zeros_like(text, tf.int64)
    return Seconds(zeros, tf.cast(zeros, tf.bool))


def _iso(text: tf.Tensor, zone: str | None, naive: bool) -> Seconds:
    """ISO 8601; without a zone in `zone`, if `naive` ones are read."""
    good = tf.strings.regex_full_match(text, _ISO)
    text = tf.where(good, text, "1970-01-01")
    cells = tf.cast(tf.io.decode_raw(text, tf.uint8, fixed_length=19), tf.int64)
    digits = cells - ord("0")  # [N, 19]; what is cut off is negative
    # A zone may stand where minutes or seconds do not.
    tail = tf.strings.regex_replace(text, _HEAD, "")
    sizes = tf.strings.length(text) - tf.strings.length(tail)

    def number(first: int, count: int) -> tf.Tensor:
        total = tf.zeros_like(digits[:, 0])
        for column in range(first, first + count):
            total = total * 10 + digits[:, column]
        return total * tf.cast(sizes >= first + count, tf.int64)

    year, month, day, hour, minute, second = (
        number(first, count)
        for first, count in ((0, 4), (5, 2), (8, 2), (11, 2), (14, 2), (17, 2))
    )
    local, there = _moment(year, month, day, hour, minute, second)
    ahead, known = _ahead(tf.strings.regex_replace(tail, " UTC", "Z"))
    zoned = tf.not_equal(tail, "")
    return Seconds(
        tf.where(zoned, local - ahead, _utc(local, zone)),
        good & there & known & (zoned | naive),
    )


def _ahead(zone: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Seconds that +09:00, -0530, +09 or Z are ahead of UTC; "" is 0.

    And whether that is less than a day.
    """
    plain = tf.strings.regex_replace(zone, ":", "")
    cells = tf.cast(tf.io.decode_raw(plain, tf.uint8, fixed_length=5), tf.int64)
    digits = tf.where(cells < ord("0"), tf.zeros_like(cells), cells - ord("0"))
    hours = digits[:, 1] * 10 + digits[:, 2]
    minutes = digits[:, 3] * 10 + digits[:, 4]
    total = hours * 3600 + minutes * 60
    behind = tf.cast(tf.equal(cells[:, 0], ord("-")), tf.int64)
    return total * (1 - 2 * behind), total < _DAY


def _since_1970(text: tf.Tensor) -> Seconds:
    """Counts of s, ms, µs or ns, whichever makes them believable."""
    low, high = _new_year(FIRST_YEAR), _new_year(last_year() + 1)
    whole = tf.strings.regex_full_match(text, _WHOLE)
    broken = ~whole & tf.strings.regex_full_match(text, _FLOAT)
    numbers = tf.strings.to_number(tf.where(whole, text, "0"), tf.int64)
    floats = tf.strings.to_number(tf.where(broken, text, "0"), tf.float64)
    found = _nothing(text)
    for unit in _PER_SECOND:
        inside = (numbers >= low * unit) & (numbers < high * unit)
        found = _with(found, inside, numbers // unit)
        inside = (floats >= low * unit) & (floats < high * unit)
        near = tf.where(inside, floats, tf.zeros_like(floats))
        micros = tf.round(near * (_MICRO / unit))
        found = _with(found, inside, tf.cast(micros, tf.int64) // _MICRO)
    values = found.values
    year, month = values // 10**6, values // 10**4 % 100
    day, hour = values // 100 % 100, values % 100
    calendar = ((year >= FIRST_YEAR) & (year <= last_year()) & (month >= 1)) & (
        (month <= 12) & (day >= 1) & (day <= 31) & (hour < 24)
    )
    return Seconds(values, found.good & ~calendar)


def _with(found: Seconds, inside: tf.Tensor, values: tf.Tensor) -> Seconds:
    return Seconds(tf.where(inside, values, found.values), found.good | inside)


def _counted(text: tf.Tensor, unit: int) -> Seconds:
    """Counts of which `unit` make a second."""
    whole = tf.strings.regex_full_match(text, _SIGNED)
    broken = ~whole & tf.strings.regex_full_match(text, _FLOAT)
    numbers = tf.strings.to_number(tf.where(whole, text, "0"), tf.int64)
    floats = tf.strings.to_number(tf.where(broken, text, "0"), tf.float64)
    floats = tf.clip_by_value(floats / unit, -1e12, 1e12)
    micros = tf.cast(tf.round(floats * _MICRO), tf.int64)
    return Seconds(
        tf.where(whole, numbers // unit, micros // _MICRO), whole | broken
    )


def _formatted(
    text: tf.Tensor, format: time_format.TimeFormat, zone: str | None
) -> Seconds:
    """Text in a strptime format."""
    width = format.width
    if format.digits_only and width:  # a number lost its leading zeros
        lost = width - tf.strings.length(text, "UTF8_CHAR")
        zeros = tf.constant(["0" * count for count in range(width + 1)])
        zeros = tf.gather(zeros, tf.maximum(lost, 0))
        text = tf.strings.join([zeros, text])
    good = tf.strings.regex_full_match(text, format.pattern)
    good &= tf.equal(_group(text, format, "rest", good), "")
    fields: dict[str, Any] = {}
    for code in format.codes:
        part = tf.strings.strip(_group(text, format, code, good))
        if code in ("b", "B"):
            names = [m[:3] if code == "b" else m for m in time_format.MONTHS]
            same = tf.equal(tf.strings.lower(part)[:, None], [names])
            fields[code] = 1 + tf.argmax(same, axis=1)
        elif code == "p":
            later = tf.equal(tf.strings.lower(part), "pm")
            fields[code] = 12 * tf.cast(later, tf.int64)
        elif code == "z":
            fields[code], known = _ahead(part)
            good &= known
        elif code not in ("a", "A", "f", "Z"):
            part = tf.where(good, part, "0")
            fields[code] = tf.strings.to_number(part, tf.int64)
    local, there = _joined(fields, tf.zeros_like(text, tf.int64))
    if "z" in fields:
        local -= fields["z"]
    elif "Z" not in format.codes:
        local = _utc(local, zone)
    return Seconds(local, good & there)


def _group(
    text: tf.Tensor, format: time_format.TimeFormat, name: str, good: tf.Tensor
) -> tf.Tensor:
    """The part of the text that a group of the format's pattern matches."""
    pattern = format.pattern.replace(f"(?P<{name}>", "(")
    for other in (*format.codes, "rest"):
        pattern = pattern.replace(f"(?P<{other}>", "(?:")
    found = tf.strings.regex_replace(text, pattern, r"\1", replace_global=False)
    return tf.where(good, found, "")


def _joined(
    fields: dict[str, Any], nothing: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    year = fields.get("Y")
    if year is None:
        short = fields["y"]
        year = 1900 + short + 100 * tf.cast(short < 69, tf.int64)
    hour = fields.get("H", nothing)
    if "I" in fields:
        hour = fields["I"] % 12 + fields["p"]
    minute, second = fields.get("M", nothing), fields.get("S", nothing)
    if "j" not in fields:
        month = next(fields[code] for code in "mbB" if code in fields)
        return _moment(year, month, fields["d"], hour, minute, second)
    one = tf.ones_like(nothing)
    first, _ = _moment(year, one, one, hour, minute, second)
    next_year, _ = _moment(year + 1, one, one, nothing, nothing, nothing)
    found = first + (fields["j"] - 1) * _DAY
    return found, (fields["j"] >= 1) & (found < next_year)


def _moment(
    year: tf.Tensor,
    month: tf.Tensor,
    day: tf.Tensor,
    hour: tf.Tensor,
    minute: tf.Tensor,
    second: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Seconds of a wall clock, and whether there is such a day and hour."""
    inside = (month >= 1) & (month <= 12) & (year >= 1) & (day >= 1)
    one = tf.ones_like(month)
    month = tf.where(inside, month, one)
    begin = days_before(year, month)
    december = tf.equal(month, 12)
    end = days_before(
        tf.where(december, year + 1, year), tf.where(december, one, month + 1)
    )
    inside &= day <= end - begin
    inside &= (hour < 24) & (minute < 60) & (second < 60)
    days = begin + day - 1
    return ((days * 24 + hour) * 60 + minute) * 60 + second, inside


def days_before(year: tf.Tensor, month: tf.Tensor) -> tf.Tensor:
    """Days from 1970 to the first of a month, proleptic Gregorian.

    By Howard Hinnant, "chrono-compatible low-level date algorithms".
    """
    year = tf.where(month <= 2, year - 1, year)
    era = year // 400
    of_era = year - era * 400
    day = (153 * ((month + 9) % 12) + 2) // 5
    of_era = of_era * 365 + of_era // 4 - of_era // 100 + day
    return era * 146_097 + of_era - 719_468


def _utc(local: tf.Tensor, zone: str | None) -> tf.Tensor:
    """Seconds of a wall clock in `zone` as those since 1970."""
    if zone in (None, "UTC"):
        return local
    found = time_zones.changes(zone)
    return local - offset(local, found.walls, found.offsets)


def offset(values: tf.Tensor, borders: Any, offsets: Any) -> tf.Tensor:
    """Seconds ahead of UTC, by the borders from which they hold."""
    at = tf.searchsorted(
        tf.constant(np.asarray(borders), tf.int64), values, side="right"
    )
    return tf.gather(tf.constant(np.asarray(offsets), tf.int64), at)
