"""Config of numbers: how each enters the model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from models.config.section import Name, PositiveInt, Section

SHALLOW = "shallow"  # as `serve`: weights of its own, which are not served
LOG_BUCKETS = 1025  # of `transform: log_buckets`: 512 a side, and around 0
Bound = Annotated[float, Field(allow_inf_nan=False)] | None


class NumericFeature(Section):
    """One number a row."""

    name: Name
    """Column."""
    transform: Literal[
        "none",
        "log1p",
        "zscore",
        "log1p_zscore",
        "min_max",
        "log1p_min_max",
        "buckets",
        "log_buckets",
    ] = "log1p_zscore"
    """How the number enters the model.

    `log1p` is sign(x)·log(1 + |x|), which keeps the sign. `zscore` subtracts
    the mean and divides by the deviation. `min_max` maps the lowest number of
    the training rows to 0 and the highest to 1, and what lies beyond to these.
    `buckets` cuts at quantiles, `log_buckets` at floor(ln(x)²) for x above 2
    and at integers below; both embed the bucket like a category.
    """
    clip: tuple[Bound, Bound] | None = None
    """Least and greatest value, `[low, high]`; one may be null.

    A number beyond takes the bound, before `transform`; `default` does not.
    """
    missing: Literal["default", "indicator"] = "default"
    """Input that a missing number gives the model.

    `default` is told by its value alone. `indicator` adds an input beside
    it, `<name>_missing`: 1 where the number is missing, else 0.
    """
    pieces: Annotated[int, Field(ge=2, le=256)] | None = None
    """Inputs beside the number: its place in pieces between quantiles.

    Piece i is 0 left of the i-th of so many intervals, 1 right of it, and
    linear within: a network bends the effect of the number there. All are 0
    where the number is missing (Gorishniy et al., arXiv 2203.05556).
    """
    buckets: Annotated[int, Field(ge=2)] = 32
    """Number of quantile buckets, with `transform: buckets`."""
    default: float = 0.0
    """Value of a missing number.

    In buckets a missing number has an id of its own.
    """
    dim: PositiveInt = 16
    """Embedding dimension, with `transform: buckets` or `log_buckets`."""
    serve: Literal["missing", "shallow"] | float | None = None
    """Value of every request, for a number that only training sees.

    `missing` stands for no value; null: the caller sends the number. `shallow`,
    with `transform: buckets` or `log_buckets`: as of a category.
    """

    @property
    def ids(self) -> int:
        """Buckets that are embedded; 0 for one that stays a number."""
        if self.transform == "log_buckets":
            return LOG_BUCKETS
        return self.buckets if self.transform == "buckets" else 0

    @property
    def indicator(self) -> str | None:
        """Name of the input that says whether the number is missing."""
        return f"{self.name}_missing" if self.missing == "indicator" else None

    @property
    def piece_names(self) -> list[str]:
        """Names of the inputs of `pieces`."""
        return [f"{self.name}_piece_{i}" for i in range(self.pieces or 0)]

    @property
    def cuts(self) -> int:
        """Parts of equal size whose bounds are wanted; 0: no bounds."""
        if self.pieces:
            return self.pieces + 2  # its ends are quantiles, not extremes
        return self.buckets if self.transform == "buckets" else 0

    @field_validator("clip")
    @classmethod
    def _clip_is_an_interval(cls, value: Any) -> Any:
        low, high = value or (None, None)
        if low is not None and high is not None and low >= high:
            raise ValueError(
                f"received [{low:g}, {high:g}]; accepted: [low, high] with low"
                " below high"
            )
        if value is not None and low is None and high is None:
            raise ValueError(
                "received [null, null]; accepted: [low, high], one of them"
                " may be null"
            )
        return value

    @model_validator(mode="after")
    def _indicator_is_of_a_number(self) -> NumericFeature:
        if self.ids and self.indicator:
            raise ValueError(
                "`missing: indicator` goes with numbers; with `transform:"
                f" {self.transform}` a missing one has an id of its own."
                " Leave `missing` out"
            )
        return self

    @model_validator(mode="after")
    def _pieces_are_of_a_number(self) -> NumericFeature:
        if self.ids and self.pieces:
            raise ValueError(
                f"`pieces` goes with numbers; received `transform:"
                f" {self.transform}`, which has buckets. Leave one out"
            )
        return self

    @model_validator(mode="after")
    def _shallow_has_ids(self) -> NumericFeature:
        if self.serve == SHALLOW and not self.ids:
            raise ValueError(
                "`serve: shallow` gives each bucket a weight; received"
                f" `transform: {self.transform}`; accepted: `buckets` or"
                " `log_buckets`"
            )
        return self
