"""Durations of the config: a number and a unit, such as 90s or 7d."""

from __future__ import annotations

import re
from typing import Any

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)([smhd])")


def microseconds(duration: str) -> int:
    """90s, 30m, 2h or 1d in microseconds; 0 if it is none of them."""
    found = _DURATION.fullmatch(duration)
    return round(float(found[1]) * _UNITS[found[2]] * 1e6) if found else 0


def not_a_duration(value: Any) -> str:
    """Text of the error: received and accepted."""
    return (
        f"received {value!r}; accepted: a number and a unit, such as 90s, 30m,"
        " 2h or 1d, above 0"
    )
