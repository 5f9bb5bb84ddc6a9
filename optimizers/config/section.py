"""Base class and field types of the config's sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

AUTO = "auto"
"""A setting that is chosen from the log before training."""


class FieldError(ValueError):
    """A problem of one field of a section.

    field: the path, dotted, from that section.
    message: received and accepted, without the field.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


def no_boolean(value: Any) -> Any:
    """YAML reads yes, no, on and off as booleans; Python counts with them."""
    if isinstance(value, bool):
        raise ValueError(f"received {value}; accepted: a number")
    return value


# Machines count in 64 bits.
PositiveInt = Annotated[int, Field(ge=1, lt=2**63), BeforeValidator(no_boolean)]


class Section(BaseModel):
    """A part of the config: frozen, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    # Fields that may be `auto`, as they are where nothing is given.
    automatic: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _auto_is_not_given(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and cls.automatic:
            return {
                key: item
                for key, item in value.items()
                if not (key in cls.automatic and item == AUTO)
            }
        return value

    def asked(self) -> dict[str, Any]:
        """The fields in JSON types; `auto` where one is to be chosen."""
        given = self.model_dump(mode="json")
        absent = set(self.automatic) - self.model_fields_set
        return given | dict.fromkeys(sorted(absent), AUTO)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_areno_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        if field.annotation in (int, float, int | None, float | None):
            return no_boolean(value)
        return value
