"""When each row happened, to microseconds: as the config says, or as usual."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.arrow_masks import Mask, mask, nulled
from components.click_log_gen.columns import time_hints, time_parse
from components.click_log_gen.columns.rows import FLOAT, Column, Verdicts
from models.config import time_format
from models.config.event_time import (
    FIRST_YEAR,
    TimeColumn,
    last_year,
)
from models.errors import InputError
from models.preprocessing import time_zones

Times = npt.NDArray[np.int64]

_ZONE = r"(Z|[+-]\d\d(:?\d\d)?)"
_CLOCK = r"\d\d(:\d\d(:\d\d(\.\d+)?)?)?"
_ISO = rf"^\d{{4}}-\d\d-\d\d([ T]{_CLOCK}{_ZONE}?)?$"
_ZONED = rf"[ T].*{_ZONE}$"
_BIG_QUERY = r"(\d) UTC$"
_ZONES = (pa.timestamp("us", "UTC"), pa.timestamp("us"))
_WHOLE = r"^([1-9]\d{0,17}|[12]\d{18})$"  # fits into 64 bits
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_MICRO = 10**6
_EXACT = 2.0**53  # above it a float is not each integer
_FAR = 9 * 10**18  # microseconds that no bounds reach


@dataclass(frozen=True)
class Bounds:
    """Microseconds between which a time is believed: first <= t < after."""

    first: int
    after: int

    @classmethod
    def now(cls) -> Bounds:
        """From 1990 to the end of the tenth year from now."""
        return cls(_new_year(FIRST_YEAR), _new_year(last_year() + 1))

    def inside(self, micros: Times) -> Mask:
        """Which times are believed."""
        return (micros >= self.first) & (micros < self.after)


def _new_year(year: int) -> int:
    moment = datetime.datetime(year, 1, 1, tzinfo=datetime.UTC)
    return int(moment.timestamp()) * _MICRO


def event_time(
    array: pa.Array,
    column: Column,
    verdicts: Verdicts,
    time: TimeColumn | None = None,
    field: str = "data.time",
) -> Times:
    """Microseconds since 1970 of each row; a row without is refused.

    Without a format ISO 8601, as BigQuery writes it too, and numbers that
    count s, ms, µs or ns since 1970. 2014102100 is refused: it would be a day
    of 2033, and is an hour of 2014.

    Args:
        time: how the column is written. field: where the config says so.

    Raises:
        InputError: the column holds times, and `time` has a format.
    """
    time = time or TimeColumn(column=column.name)
    bounds = Bounds.now()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    text = None
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        micros = _typed(array, column, time, field)
    elif pa.types.is_integer(kind) and time.unit:
        micros = _scaled(array, time.unit)
    elif _is_number(kind) and time.format is None:
        micros = _epochs(array, bounds)
    else:
        text = column.text(array, verdicts).cast(pa.string())
        micros = _read(text, time, bounds)
        if pa.types.is_floating(kind) and not time.unit:
            # Its last digits are not those that were written.
            micros = nulled(micros, mask(pc.greater(pc.abs(array), _EXACT)))
    missing = mask(
        array.is_null(nan_is_null=True) if text is None else text.is_null()
    )
    verdicts.refuse(missing, f"column {column.name}: no time")
    found = pc.fill_null(micros, bounds.first).to_numpy(zero_copy_only=False)
    first = -bounds.after if time.unit else bounds.first
    outside = (found < first) | (found >= bounds.after)
    wrong = mask(micros.is_null()) & ~missing
    if outside.any() or wrong.any():
        _explain(array, column, verdicts, time, field, wrong, outside)
    times: Times = np.where(wrong | outside | missing, 0, found)
    return times


def text_of(times: Times) -> pa.StringArray:
    """ISO 8601 of times as `event_time` gives them, which any reader takes."""
    text = pa.array(times).cast(pa.timestamp("us")).cast(pa.string())
    text = pc.replace_substring_regex(text, r"\.?0*$", "Z")
    return pc.replace_substring(text, " ", "T", max_replacements=1)


def reading(kind: str | None) -> str:
    """Kind to read a time's column as, if it is read as `kind` besides.

    As a float 20130606000104192 would lose its last digit.
    """
    return "string" if kind == "string" else "time"


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _typed(
    array: pa.Array, column: Column, time: TimeColumn, field: str
) -> pa.Array:
    """Microseconds in UTC of a column that holds times."""
    if time.format is not None:
        raise InputError(
            f"column {column.name!r} holds {array.type}, which is a time"
            f" already; {field}.format is for text and integers. Leave it out"
        )
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("s"))
    kind = array.type
    micros = _scaled(array.cast(pa.int64()), _PER_SECOND[kind.unit])
    return micros if kind.tz is not None else _in_utc(micros, time.zone)


def _scaled(units: pa.Array, per_second: int) -> pa.Array:
    """Integers as microseconds; those out of range stay far off."""
    values = pc.fill_null(units.cast(pa.int64(), safe=False), 0).to_numpy()
    if per_second > _MICRO:
        micros = values // (per_second // _MICRO)
    else:
        scale = _MICRO // per_second
        micros = np.clip(values, -_FAR // scale, _FAR // scale) * scale
    return pa.array(micros, mask=mask(units.is_null()))


def _in_utc(micros: pa.Array, zone: str | None) -> pa.Array:
    """Microseconds of a wall clock in `zone` as those since 1970."""
    if zone in (None, "UTC"):
        return micros
    local = pc.fill_null(micros, 0).to_numpy()
    return pa.array(time_zones.utc(local, zone), mask=mask(micros.is_null()))


def _read(text: pa.Array, time: TimeColumn, bounds: Bounds) -> pa.Array:
    """Microseconds of text; null where it is no time."""
    if time.format is None:
        return _usual(text, time.zone, bounds)
    if time.unit is None:
        format = time_format.parse(time.format)
        return time_parse.micros(text, format, time.zone)
    text = pc.utf8_trim_whitespace(text)
    whole = _where(text, pc.match_substring_regex(text, r"^-?\d{1,18}$"))
    rest = _where(text, pc.match_substring_regex(text, FLOAT))
    numbers = rest.cast(pa.float64())
    micros = pc.fill_null(numbers, 0).to_numpy() * (_MICRO / time.unit)
    micros = np.rint(np.nan_to_num(np.clip(micros, -_FAR, _FAR), nan=_FAR))
    floats = pa.array(micros.astype(np.int64), mask=mask(numbers.is_null()))
    return pc.coalesce(_scaled(whole.cast(pa.int64()), time.unit), floats)


def _usual(text: pa.Array, zone: str | None, bounds: Bounds) -> pa.Array:
    """ISO 8601, BigQuery's form of it, or a number since 1970."""
    try:
        return _all_alike(text, zone, bounds)
    except pa.ArrowInvalid:
        pass
    text = pc.utf8_trim_whitespace(text)
    text = pc.replace_substring_regex(text, _BIG_QUERY, r"\1Z")
    # Several habits in one block, or values that are no time.
    whole = _where(text, pc.match_substring_regex(text, _WHOLE))
    numeric = _where(text, pc.match_substring_regex(text, FLOAT))
    micros = _epochs(whole.cast(pa.int64()), bounds)
    numeric = nulled(numeric, mask(whole.is_valid()))
    micros = pc.coalesce(micros, _epochs(numeric.cast(pa.float64()), bounds))
    text = _where(text, pc.match_substring_regex(text, _ISO))
    text = pc.replace_substring_regex(text, r"(\.\d{6})\d+", r"\1")
    zoned = pc.match_substring_regex(text, _ZONED)
    ahead = _iso(_where(text, zoned), _ZONES[0])
    local = _iso(_where(text, pc.invert(zoned)), _ZONES[1])
    return pc.coalesce(micros, ahead, _in_utc(local, zone))


def _all_alike(text: pa.Array, zone: str | None, bounds: Bounds) -> pa.Array:
    """All as the first of them is written, which a cast can read.

    Arrow takes a microsecond for each value that it cannot, so the first one
    tells which cast to try.
    """
    first = next((v.as_py() for v in text if v.is_valid), "")
    if first.isdigit():
        units = text.cast(pa.int64())
        if pc.any(pc.starts_with(text, "0")).as_py():  # to Arrow 0x1F is 31
            raise pa.ArrowInvalid("a leading zero")
        return _epochs(units, bounds)
    if first.endswith(" UTC"):
        text = pc.replace_substring_regex(text, _BIG_QUERY, r"\1Z")
    elif not re.search(_ZONED, first):
        return _in_utc(text.cast(_ZONES[1]).cast(pa.int64()), zone)
    return text.cast(_ZONES[0]).cast(pa.int64())


def _where(text: pa.Array, chosen: pa.Array) -> pa.Array:
    return nulled(text, ~mask(chosen))


def _iso(text: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return text.cast(kind).cast(pa.int64())
    except pa.ArrowInvalid:
        if len(text) == 1:
            return pa.nulls(1, pa.int64())
    # Some say the 31st of June: halves, until each of them stands alone.
    half = len(text) // 2
    return pa.concat_arrays([_iso(text[:half], kind), _iso(text[half:], kind)])


def _epochs(numbers: pa.Array, bounds: Bounds) -> pa.Array:
    """Counts since 1970 in the unit that makes them believable, or null."""
    whole = pa.types.is_integer(numbers.type)
    kind = pa.int64() if whole else pa.float64()
    values = pc.fill_null(numbers.cast(kind, safe=False), 0).to_numpy()
    micros = np.zeros(len(values), np.int64)
    good = np.zeros(len(values), np.bool_)
    for unit in _PER_SECOND.values():
        low, high = (b // _MICRO * unit for b in (bounds.first, bounds.after))
        inside = (values >= low) & (values < high)
        if not inside.any():
            continue
        near = np.where(inside, values, 0)
        if not whole:
            found = np.rint(near * (_MICRO / unit)).astype(np.int64)
        elif unit > _MICRO:
            found = near // (unit // _MICRO)
        else:
            found = near * (_MICRO // unit)
        micros += np.where(inside, found, 0)
        good |= inside
    good &= ~_calendar_hours(micros // _MICRO)
    return pa.array(micros, mask=~good)


def _calendar_hours(seconds: Times) -> Mask:
    """Which numbers begin as 2014102100 does: far ahead, or an hour's digits.

    They would be seconds of 2033 and later.
    """
    found = seconds >= FIRST_YEAR * 10**6
    if found.any():
        year, month = seconds // 10**6, seconds // 10**4 % 100
        day, hour = seconds // 100 % 100, seconds % 100
        found &= (year <= last_year()) & (month >= 1) & (month <= 12)
        found &= (day >= 1) & (day <= 31) & (hour < 24)
    return found


def clock_digits(times: Times) -> int:
    """The last four digits of seconds that all read as 1410210030, as bits.

    As %y%m%d%H%M that is 2014-10-21 00:30. Of real seconds one in 200 reads
    so; of such a log all do. 0 without times; -1 if one reads otherwise.
    """
    for some in (times[:1], times):  # mostly the first one tells
        seconds = some // _MICRO
        month, day = seconds // 10**6 % 100, seconds // 10**4 % 100
        hour, minute = seconds // 100 % 100, seconds % 100
        inside = (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
        if not (inside & (hour < 24) & (minute < 60)).all():
            return -1
    return sum(1 << int(n) for n in np.unique(seconds % 10**4))


def _explain(
    array: pa.Array,
    column: Column,
    verdicts: Verdicts,
    time: TimeColumn,
    field: str,
    wrong: Mask,
    outside: Mask,
) -> None:
    """Refuses what is no time, with a format to try where there is one."""
    name = f"column {column.name}"
    years = f"{FIRST_YEAR} to {last_year()}"
    verdicts.refuse(outside, f"{name}: a time outside {years}")
    rows = np.flatnonzero(wrong)
    if not len(rows):
        return
    quiet = Verdicts.none(len(rows))
    text = column.text(array.take(pa.array(rows)), quiet).cast(pa.string())
    bounds = Bounds.now()
    guesses = time_hints.formats(text, bounds.first, bounds.after)
    what = f"not in {field}.format, {time.format!r}"
    if time.format is None:
        what = "not a time as it stands"
    for guess in pc.unique(guesses.drop_null()).to_pylist():
        if guess == time.format:
            continue
        chosen = np.zeros(len(wrong), np.bool_)
        chosen[rows] = mask(pc.equal(guesses, guess))
        verdicts.refuse(
            chosen, f'{name}: {what}; give {field}.format, such as "{guess}"'
        )
    if time.format is not None:
        verdicts.refuse(wrong, f"{name}: {what}")
        return
    numbers = np.zeros(len(wrong), np.bool_)
    numbers[rows] = mask(
        pc.match_substring_regex(text, rf"(?i)^\s*{FLOAT[5:-1]}\s*$")
    )
    verdicts.refuse(
        numbers,
        f"{name}: not a time of {years} in s, ms, µs or ns since 1970; give"
        f" {field}.format, such as seconds if it counts from another start",
    )
    verdicts.refuse(
        wrong,
        f"{name}: not a time (ISO 8601, or a count since 1970); give"
        f" {field}.format if it is written in another way",
    )
