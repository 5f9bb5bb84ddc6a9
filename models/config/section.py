"""Base class and field types of the config's sections."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from models.config.paths import expanded
from optimizers.config.section import FieldError, PositiveInt, Section

__all__ = ["FieldError", "Name", "PathText", "PositiveInt", "Section"]

PathText = Annotated[str, Field(min_length=1), AfterValidator(expanded)]


def _only_text(value: Any) -> Any:
    """Column names that YAML read as a number or a boolean stay usable."""
    if isinstance(value, bool):
        raise ValueError(
            "YAML reads this word as true or false; put it in quotes"
        )
    return str(value) if isinstance(value, int) else value


Name = Annotated[str, Field(min_length=1), BeforeValidator(_only_text)]
