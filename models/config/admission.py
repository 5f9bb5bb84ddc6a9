"""Config section `admission`: which values of a feature have rows, by day."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from models.config.section import PositiveInt, Section, long_form


class Admission(Section):
    """A vocabulary whose counts are carried from run to run.

    A value gets a row after `min_count` sightings in the last `days`, and keeps
    it until `evict_after` days without one. Of more than `max_size` values the
    commonest of these days have rows.
    """

    days: PositiveInt
    """Days over which `min_count` sightings admit a value, up to the newest
    day of the training split."""
    evict_after: PositiveInt | None = None
    """Days without a sighting after which a value loses its row; null: as
    many as `days`."""
    waiting: PositiveInt = 10_000_000
    """Values without a row whose counts are kept for the next run; beyond
    them the rarest are forgotten."""

    @model_validator(mode="before")
    @classmethod
    def _days_alone(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError(
                f"received {value!r}; accepted: days, such as 7, or"
                " {days, evict_after, waiting}"
            )
        return long_form(
            cls,
            value,
            "days",
            (int,),
            "days, such as 7, or {days, evict_after, waiting}",
        )

    @model_validator(mode="after")
    def _evicts_after_admission(self) -> Admission:
        if self.evict_after is not None and self.evict_after < self.days:
            raise ValueError(
                f"`evict_after` received {self.evict_after} with days:"
                f" {self.days}; accepted: {self.days} or more. A value would be"
                " dropped that its sightings admit"
            )
        return self

    @property
    def last(self) -> int:
        """Days without a sighting after which a value loses its row."""
        return self.evict_after or self.days
