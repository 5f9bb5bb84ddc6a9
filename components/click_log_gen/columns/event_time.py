"""When each row happened: any usual way to write a time, to microseconds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.click_log_gen.columns.rows import (
    FLOAT,
    Column,
    Mask,
    Verdicts,
    mask,
    nulled,
)

Times = npt.NDArray[np.int64]

_ZONE = r"(Z|[+-]\d\d(:?\d\d)?)"
_CLOCK = r"\d\d(:\d\d(:\d\d(\.\d+)?)?)?"
_ISO = rf"^\d{{4}}-\d\d-\d\d([ T]{_CLOCK}{_ZONE}?)?$"
_ZONED = rf"[ T].*{_ZONE}$"
_ZONES = (pa.timestamp("us", "UTC"), pa.timestamp("us"))


def event_time(array: pa.Array, column: Column, verdicts: Verdicts) -> Times:
    """Microseconds since 1970 of each row; a row without is refused.

    Accepts ISO 8601 (no zone means UTC) and seconds, milliseconds,
    microseconds or nanoseconds since 1970, told apart by their size. 20251101
    is refused: as seconds it would be a day of August 1970.
    """
    dates = np.zeros(len(array), np.bool_)
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        micros = array.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        missing = array.is_null()
    elif pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        micros = _epoch(array.cast(pa.float64(), safe=False))
        missing = array.is_null(nan_is_null=True)
        dates = _bare_dates(array)
    else:
        text = column.text(array, verdicts)
        micros = _from_text(text)
        missing = text.is_null()
        digits = pc.match_substring_regex(text, r"^\s*\d{8}\s*$")
        dates = _bare_dates(pc.utf8_trim_whitespace(_where(text, digits)))
    verdicts.refuse(
        dates,
        f"column {column.name}: looks like a date without dashes; write"
        " 20251101 as 2025-11-01",
    )
    micros = nulled(micros, dates)
    verdicts.refuse(mask(missing), f"column {column.name}: no time")
    verdicts.refuse(
        mask(micros.is_null()),
        f"column {column.name}: not a time (ISO 8601, or seconds since 1970)",
    )
    times: Times = pc.fill_null(micros, 0).to_numpy(zero_copy_only=False)
    return times


def _bare_dates(array: pa.Array) -> Mask:
    """Which numbers, or digits, are a day of 1900 to 2100 as 20251101."""
    numbers = array.cast(pa.float64(), safe=False)
    values = pc.fill_null(numbers, np.nan).to_numpy(zero_copy_only=False)
    found: Mask = (values >= 19000101) & (values <= 21001231)
    found &= np.trunc(values) == values
    if not found.any():
        return found
    digits = np.where(found, values, 19000101).astype(np.int64)
    year, month, day = digits // 10_000, digits // 100 % 100, digits % 100
    first = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = (first + 1).astype("datetime64[D]") - first.astype("datetime64[D]")
    found &= (month >= 1) & (month <= 12)
    found &= (day >= 1) & (day <= days.astype(np.int64))
    return found


def _from_text(text: pa.Array) -> pa.Array:
    for kind in _ZONES:
        try:
            return text.cast(kind).cast(pa.int64())
        except pa.ArrowInvalid:
            continue
    # Several habits in one block, or values that are no time.
    text = pc.utf8_trim_whitespace(text)
    numeric = _where(text, pc.match_substring_regex(text, FLOAT))
    micros = _epoch(numeric.cast(pa.float64()))
    text = _where(text, pc.match_substring_regex(text, _ISO))
    text = pc.replace_substring_regex(text, r"(\.\d{6})\d+", r"\1")
    zoned = pc.match_substring_regex(text, _ZONED)
    for kind, chosen in zip(_ZONES, (zoned, pc.invert(zoned)), strict=True):
        micros = pc.coalesce(micros, _iso(_where(text, chosen), kind))
    return micros


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


def _epoch(numbers: pa.Array) -> pa.Array:
    """Seconds, or thousandths of them and so on, by size, as microseconds."""
    values = pc.fill_null(numbers, np.nan).to_numpy()
    size = np.abs(values)
    factor = np.select(
        [size >= 1e17, size >= 1e14, size >= 1e11], [1e-3, 1.0, 1e3], 1e6
    )
    micros = values * factor
    bad = ~(np.abs(micros) < 9e18)  # NaN is bad
    micros = np.rint(np.where(bad, 0, micros))
    return pa.array(micros.astype(np.int64), mask=bad)
