"""Config of the features that are computed from a row's time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from models.config.event_time import TimeColumn, known_zone
from models.config.section import PositiveInt, Section, long_form

Part = Literal[
    "hour",
    "weekday",
    "hour_of_week",
    "is_weekend",
    "day_of_month",
    "month",
]
SIZES: Mapping[Part, int] = {
    "hour": 24,
    "weekday": 7,
    "hour_of_week": 168,
    "is_weekend": 2,
    "day_of_month": 31,
    "month": 12,
}


class TimeFeatures(Section):
    """Categories computed from `data.time`; a list stands for `{of: list}`.

    The transform computes them, so that a request holds the time alone, in a
    form that `data.time` accepts, or as ISO 8601 with its zone.
    """

    of: Annotated[tuple[Part, ...], Field(min_length=1)]
    """Parts of the time, on the clock of `zone`. Weeks begin on Monday."""
    zone: str | None = None
    """IANA name of the zone of the clock; null: that of `data.time`, or UTC.

    Daylight saving time is followed.
    """
    dim: PositiveInt = 16
    """Embedding dimension."""
    now: bool = False
    """Take a request without a time to be of now; else the time is missing."""
    source: TimeColumn | None = None
    """Column, format and zone of the time: those of `data.time`."""

    @model_validator(mode="before")
    @classmethod
    def _in_full(cls, value: Any) -> Any:
        return cls.in_full(value)

    @classmethod
    def in_full(cls, value: Any) -> Any:
        """The mapping that a list stands for.

        Raises:
            ValueError: neither.
        """
        return long_form(
            cls,
            value,
            "of",
            (list, tuple),
            "a list, such as [hour, weekday], or {of, zone, dim, now}",
        )

    @field_validator("of")
    @classmethod
    def _each_once(cls, value: tuple[Part, ...]) -> tuple[Part, ...]:
        for part in value:
            if value.count(part) > 1:
                raise ValueError(f"{part!r} is named twice")
        return value

    @field_validator("zone")
    @classmethod
    def _is_zone(cls, value: str | None) -> str | None:
        return known_zone(value)

    @property
    def time(self) -> TimeColumn:
        """The column that they are computed from."""
        assert self.source is not None
        return self.source

    @property
    def clock(self) -> str:
        """The zone of the clock."""
        return self.zone or self.time.zone or "UTC"

    @property
    def names(self) -> dict[str, Part]:
        """Name of each feature -> what it is: timestamp_hour -> hour."""
        return {f"{self.time.column}_{part}": part for part in self.of}
