"""What the sections of the config are made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]


def _only_text(value: Any) -> Any:
    """Column names that YAML read as a number or a boolean stay usable."""
    if isinstance(value, bool):
        raise ValueError(
            "YAML reads this word as true or false; put it in quotes"
        )
    return str(value) if isinstance(value, int) else value


Name = Annotated[str, Field(min_length=1), BeforeValidator(_only_text)]


class Section(BaseModel):
    """A part of the config: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
