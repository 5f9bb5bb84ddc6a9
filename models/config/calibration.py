"""Config of the calibration inside the export."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from models.config.section import Name, Section, long_form


class Calibrate(Section):
    """A rising function of the logit that the export applies.

    The eval split fits it; the test split judges it.
    """

    method: Literal["platt", "isotonic"]
    """`platt`: sigmoid(slope · logit + intercept). `isotonic`: the rising steps
    that fit best, linear between them."""
    by: Name | None = None
    """Category with one value a row; each value with enough eval rows has a
    function of its own, the others share one."""

    @model_validator(mode="before")
    @classmethod
    def _method_alone(cls, value: Any) -> Any:
        return long_form(
            cls,
            value,
            "method",
            (str,),
            "none, platt, isotonic, or {method, by}",
        )
