"""Text in a strptime format to microseconds, a column at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.arrow_masks import Mask, mask, nulled
from models.config.time_format import (
    MONTHS,
    TimeFormat,
    width_of,
)
from models.preprocessing import time_zones

Ints = npt.NDArray[np.int64]
_Fields = dict[str, Ints]  # code -> its number; z: seconds ahead of UTC


def micros(text: pa.Array, format: TimeFormat, zone: str | None) -> pa.Array:
    """Microseconds since 1970, in UTC; null where `text` is not in `format`.

    As datetime.strptime reads it in the C locale, and besides: blanks around
    are ignored, %f has up to 9 digits (cut to 6), %b and its like are English,
    and codes that touch have all their digits; a number alone gets its leading
    zeros back.
    """
    found = _sliced(text, format)
    if found is None:
        encoded = text.dictionary_encode()
        values = pc.utf8_trim_whitespace(encoded.dictionary)
        if format.digits_only and format.width:
            values = pc.utf8_lpad(values, format.width, "0")
        fields, good = _matched(values, format)
        each = _join(fields, good, zone)
        return each.take(encoded.indices)
    fields, good = found
    return _join(fields, good, zone)


def _sliced(text: pa.Array, format: TimeFormat) -> tuple[_Fields, Mask] | None:
    """Fields at fixed places; None unless all of `text` has them there."""
    if format.width is None or text.null_count or not len(text):
        return None
    sizes = pc.min_max(pc.binary_length(text))
    size = sizes["min"].as_py()
    part = size - format.width  # digits of %f
    if size != sizes["max"].as_py() or not (
        1 <= part <= 9 if "f" in format.codes else part == 0
    ):
        return None
    start = text.offset
    offsets = np.frombuffer(text.buffers()[1], np.int32)[start:]
    data = np.frombuffer(text.buffers()[2], np.uint8)[offsets[0] :]
    table = data[: len(text) * size].reshape(len(text), size)
    fields: _Fields = {}
    at = 0
    for code, literal in format.pieces:
        wide = len(literal) or width_of(code) or part
        cells = table[:, at : at + wide]
        at += wide
        if literal:
            if (cells != np.frombuffer(literal.encode(), np.uint8)).any():
                return None
            continue
        digits = cells - np.uint8(ord("0"))
        if (digits > 9).any():
            return None
        number = np.zeros(len(text), np.int64)
        for column in range(wide):
            number = number * 10 + digits[:, column]
        fields[code] = number
    if part:
        fields["f"] = fields["f"] * 10 ** (9 - part) // 1000
    return fields, np.ones(len(text), np.bool_)


def _matched(text: pa.Array, format: TimeFormat) -> tuple[_Fields, Mask]:
    """Fields by the format's pattern, of the values that it matches."""
    groups = pc.extract_regex(text, format.pattern)
    good = mask(pc.equal(_group(groups, "rest"), ""))
    fields: _Fields = {}
    for code in format.codes:
        found = nulled(_group(groups, code), ~good)
        if code in ("b", "B"):
            names = [m[:3] if code == "b" else m for m in MONTHS]
            at = pc.index_in(pc.utf8_lower(found), pa.array(names))
            fields[code] = 1 + _filled(at)
        elif code == "p":
            fields[code] = mask(pc.equal(pc.utf8_lower(found), "pm")) * 12
        elif code == "z":
            encoded = found.dictionary_encode()
            ahead = [_ahead(zone) for zone in encoded.dictionary.to_pylist()]
            each = pa.array(ahead, pa.int64()).take(encoded.indices)
            good &= mask(each.is_valid())
            fields[code] = _filled(each)
        elif code == "f":
            fields[code] = _filled(pc.utf8_rpad(found, 9, "0")) // 1000
        elif code == "Z":  # UTC, whatever its name
            fields[code] = np.zeros(len(text), np.int64)
        elif code not in ("a", "A"):
            fields[code] = _filled(pc.utf8_ltrim_whitespace(found))
    return fields, good


def _group(groups: pa.Array, name: str) -> pa.Array:
    return pc.struct_field(groups, name)


def _filled(numbers: pa.Array) -> Ints:
    filled: Ints = pc.fill_null(numbers.cast(pa.int64()), 0).to_numpy()
    return filled


def _ahead(zone: str) -> int | None:
    """Seconds that +09:00, -0530 or Z are ahead of UTC; a day at most."""
    if zone in ("Z", "z"):
        return 0
    seconds = int(zone[1:3]) * 3600 + int(zone[-2:]) * 60
    if seconds >= 86_400:
        return None
    return -seconds if zone[0] == "-" else seconds


def _join(fields: _Fields, good: Mask, zone: str | None) -> pa.Array:
    """The moments; null where there is no such day or hour."""
    year = fields.get("Y")
    if year is None:
        short = fields["y"]
        year = short + np.where(short < 69, 2000, 1900)
    if "j" in fields:
        days, inside = _day_of_year(year, fields["j"])
    else:
        month = next(fields[code] for code in "mbB" if code in fields)
        days, inside = _day_of_month(year, month, fields["d"])
    nothing = np.zeros(len(year), np.int64)
    hour = fields.get("H", nothing)
    if "I" in fields:
        inside &= (fields["I"] >= 1) & (fields["I"] <= 12)
        hour = fields["I"] % 12 + fields["p"]
    minute, second = fields.get("M", nothing), fields.get("S", nothing)
    inside &= (hour < 24) & (minute < 60) & (second < 60)
    seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
    found = seconds * 10**6 + fields.get("f", nothing)
    if "z" in fields:
        found -= fields["z"] * 10**6
    elif "Z" not in fields:
        found = time_zones.utc(found, zone)
    return pa.array(found, mask=~(good & inside))


def _day_of_month(year: Ints, month: Ints, day: Ints) -> tuple[Ints, Mask]:
    """Days since 1970, and whether there is such a day."""
    inside = (month >= 1) & (month <= 12) & (year >= 1)
    first = (year - 1970) * 12 + np.where(inside, month, 1) - 1
    begin, end = _days(first), _days(first + 1)
    inside &= (day >= 1) & (day <= end - begin)
    return begin + day - 1, inside


def _day_of_year(year: Ints, day: Ints) -> tuple[Ints, Mask]:
    first = (year - 1970) * 12
    begin, end = _days(first), _days(first + 12)
    inside = (day >= 1) & (day <= end - begin) & (year >= 1)
    return begin + day - 1, inside


def _days(months: Ints) -> Ints:
    """Days from 1970 to the first of each month since then."""
    moments = months.astype("datetime64[M]").astype("datetime64[D]")
    days: Ints = moments.astype(np.int64)
    return days
