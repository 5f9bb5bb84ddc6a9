"""Config sections of logs of later events: clicks, and orders and the like."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from components.click_log_gen.config import duration
from components.click_log_gen.config.log_files import LogFiles
from models.config.event_time import TimeColumn
from models.config.section import FieldError, Name, PositiveInt, Section
from models.config.training import is_reserved, reserved


class EventKey(Section):
    """The way from an event to its impression: a key, and a window of time."""

    key: tuple[Name, ...] = ()
    """Columns that name the impression, compared as text."""
    impression_key: tuple[Name, ...] | None = None
    """Columns of the key in the impressions; null: the same names."""
    window: str | None = None
    """Longest time from an impression to its event: 90s, 30m, 2h, 1d."""

    @field_validator("key", "impression_key", mode="before")
    @classmethod
    def _a_name_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | int) else value

    @field_validator("window", mode="before")
    @classmethod
    def _is_duration(cls, value: Any) -> Any:
        if value is None and cls.model_fields["window"].default is None:
            return value
        if not isinstance(value, str) or not duration.microseconds(value):
            raise ValueError(duration.not_a_duration(value))
        return value

    def check_key(self) -> None:
        """Refuse a key of no columns, of one twice, or of another length.

        Raises:
            FieldError: the key names no impression.
        """
        if not self.key or len(set(self.key)) < len(self.key):
            raise FieldError(
                "key",
                f"received {list(self.key)}; accepted: one column or several"
                " different ones",
            )
        if len(self.shown_key) != len(self.key):
            raise FieldError(
                "impression_key",
                f"received {list(self.shown_key)}; accepted: as many columns"
                f" as `key` has, {len(self.key)}",
            )

    @property
    def shown_key(self) -> tuple[str, ...]:
        """The key's columns in the impressions."""
        return self.impression_key or self.key

    @property
    def window_micros(self) -> int:
        """The window in microseconds; 0 without one."""
        return duration.microseconds(self.window) if self.window else 0


def _moment(value: Any) -> Any:
    """A time in ISO 8601, or null."""
    if isinstance(value, datetime.date):  # YAML's doing
        value = value.isoformat()
    try:
        _ = value is None or datetime.datetime.fromisoformat(value)
        return value
    except (TypeError, ValueError):
        raise ValueError(
            f"received {value!r}; accepted: a time in ISO 8601, such as"
            " 2024-01-31T23:59:59Z"
        ) from None


class ClickFiles(EventKey, LogFiles):
    """A separate click log, joined to the impressions.

    A click belongs to the impression of its key if it came at its time or up
    to `window` later. The ingest holds back impressions whose window ends after
    the click log.
    """

    key: tuple[Name, ...] = ("impression_id",)
    """Columns that name the impression, compared as text."""
    impression_key: tuple[Name, ...] | None = None
    """Columns of the key in the impressions; null: the same names."""
    time: TimeColumn | None = None
    """Event time of the click; null: as `data.time`."""
    window: str = "30m"
    """Longest time from an impression to its click: 90s, 30m, 2h, 1d."""
    until: str | None = None
    """End of the click log, in ISO 8601; null: its latest time."""
    carry: dict[Name, Literal["float", "int", "string"]] = {}
    """Columns of the click -> their type in the examples: float, int or string,
    missing without a click. They tell the label, so they are no features."""
    partitions: Annotated[PositiveInt, Field(le=10_000)] | None = None
    """Parts of the join, of which a worker holds one in memory; null: as the
    logs' size asks."""

    _is_time = field_validator("until", mode="before")(_moment)

    @model_validator(mode="after")
    def _key_fits(self) -> ClickFiles:
        self.check_key()
        for name in filter(is_reserved, self.carry):
            raise ValueError(f"`carry`: {reserved(name)}")
        return self


class EventFiles(LogFiles):
    """A log of what comes after impressions, such as orders."""

    time: TimeColumn | None = None
    """Time of the event; null: as `data.time`."""
    until: str | None = None
    """End of the log, in ISO 8601; null: its latest time."""

    _is_time = field_validator("until", mode="before")(_moment)
