"""Config of an event time: its column, how it is written, and its zone."""

from __future__ import annotations

import datetime
import difflib
import zoneinfo
from typing import Any

from pydantic import field_validator, model_validator

from models.config import time_format
from models.config.section import Name, Section, long_form

FIRST_YEAR = 1990  # before it, and ten years ahead, a time is not believed
_YEARS_AHEAD = 10


def last_year() -> int:
    """The last year whose times are believed."""
    return datetime.datetime.now(datetime.UTC).year + _YEARS_AHEAD


def known_zone(value: str | None) -> str | None:
    """`value`, if it is None or a zone's name.

    Raises:
        ValueError: it is none; with what is accepted.
    """
    known = {"UTC"} if value in (None, "UTC") else _zones()
    if value is not None and value not in known:
        close = difflib.get_close_matches(value, known, 1)
        guess = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(
            f"received {value!r}{guess}; accepted: an IANA name, such as"
            " UTC, Europe/Berlin or Asia/Shanghai; a fixed offset is"
            " Etc/GMT-8 for 8 hours ahead of UTC"
        )
    return value


class TimeColumn(Section):
    """A column of event times; its name alone stands for `{column: name}`."""

    column: Name
    """Column."""
    format: str | None = None
    """strptime's codes, such as "%Y%m%d%H"; or seconds, milliseconds,
    microseconds, nanoseconds, which may count from any start. Null: ISO 8601,
    or a count of s, ms, µs or ns since 1970, between 1990 and ten years ahead.
    """
    zone: str | None = None
    """IANA name of the zone of times that name none; null: UTC.

    A time that the clock shows twice is the first one; a time that the clock
    skips is read as if the clock had not moved yet.
    """

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return long_form(
            cls,
            value,
            "column",
            (str, int),
            "a column's name, or {column, format, zone}",
        )

    @field_validator("format")
    @classmethod
    def _is_format(cls, value: str | None) -> str | None:
        if value is not None and value not in time_format.UNITS:
            time_format.parse(value)
        return value

    @field_validator("zone")
    @classmethod
    def _is_zone(cls, value: str | None) -> str | None:
        return known_zone(value)

    @model_validator(mode="after")
    def _zone_counts(self) -> TimeColumn:
        if self.unit and self.zone not in (None, "UTC"):
            raise ValueError(
                f"`zone`: received {self.zone!r} with `format: {self.format}`,"
                " which counts in UTC; accepted: no zone"
            )
        return self

    @property
    def unit(self) -> int | None:
        """How many make a second, of a format that counts."""
        return time_format.UNITS.get(self.format or "")

    def moment(self, text: str) -> datetime.datetime:
        """An ISO 8601 time of the config; without a zone it is in `zone`."""
        found = datetime.datetime.fromisoformat(text)
        zone = zoneinfo.ZoneInfo(self.zone or "UTC")
        return found if found.tzinfo else found.replace(tzinfo=zone)


def _zones() -> set[str]:
    """Names that mean the same on every machine."""
    return zoneinfo.available_timezones() - {"localtime", "Factory"}
