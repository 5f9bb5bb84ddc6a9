"""Config of a row's weight: a column, an age, or a propensity."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from components.click_log_gen.config import duration
from models.config.section import FieldError, long_form
from models.config.training import Name, Section


class Weight(Section):
    """How much a row counts, in training and in metrics.

    A column's name alone stands for `{column: name}`. A row of weight 2 counts
    as two rows. A weight that is missing, zero, negative or not finite rejects
    its row.
    """

    column: Name | None = None
    """Column of the weights; with `half_life` that of the ages."""
    half_life: Annotated[float, Field(gt=0)] | str | None = None
    """Age at which a row counts half. A number in the unit of `column`; without
    a column a duration, such as 7d, by `data.time`, back from the newest row.
    """
    propensity: Name | None = None
    """Column of the probability with which the row was logged: its weight is
    1 / propensity."""
    clip: Annotated[float, Field(gt=0)] | None = None
    """Greatest weight; a greater one is cut to it. Null: none."""
    default: Annotated[float, Field(gt=0)] | None = None
    """Weight of a row without a value; null: the row is rejected."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return long_form(
            cls,
            value,
            "column",
            (str, int),
            "a column's name, or {column}, {column, half_life}, {half_life} or"
            " {propensity, clip}",
        )

    @field_validator("half_life", mode="before")
    @classmethod
    def _no_boolean(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError(
                f"received {value}; accepted: a number, or a duration"
            )
        return value

    @model_validator(mode="after")
    def _one_way(self) -> Weight:
        given = self.model_dump(exclude_none=True)
        if self.column and self.propensity:
            raise FieldError(
                "propensity",
                f"received {self.propensity!r} beside column {self.column!r};"
                " accepted: one of them",
            )
        if self.propensity and self.half_life:
            raise FieldError(
                "half_life",
                f"received {self.half_life!r} beside propensity"
                f" {self.propensity!r}; accepted: one of them",
            )
        if not given.keys() & {"column", "propensity", "half_life"}:
            raise ValueError(
                f"received {given}; accepted: column, half_life or propensity"
            )
        if self.clip is not None and self.half_life is not None:
            raise FieldError(
                "clip",
                f"received {self.clip:g} with half_life; accepted: none, as an"
                " age gives a weight of at most 1",
            )
        if self.half_life is None:
            return self
        if self.column is not None and isinstance(self.half_life, str):
            raise FieldError(
                "half_life",
                f"received {self.half_life!r} with column {self.column!r};"
                " accepted: a number, in the column's unit",
            )
        if self.column is None:
            if not self.half_life_micros:
                raise FieldError(
                    "half_life",
                    duration.not_a_duration(self.half_life)
                    + "; or a number, with the `column` of the ages",
                )
            if self.default is not None:
                raise FieldError(
                    "default",
                    f"received {self.default:g} with a half_life by data.time;"
                    " accepted: none, as a row without a time is rejected",
                )
        return self

    @property
    def source(self) -> str | None:
        """The column that is read for it; None: that of the time."""
        return self.column or self.propensity

    @property
    def by_time(self) -> bool:
        """True where the weight follows from the row's time."""
        return self.source is None

    @property
    def half_life_micros(self) -> int:
        """A half-life by time, in microseconds."""
        return duration.microseconds(str(self.half_life))

    def field(self) -> str:
        """The setting that names `source`."""
        return "propensity" if self.propensity else "column"
