"""Base class and field types of the config's sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from models.config.paths import expanded
from optimizers.config.section import FieldError, PositiveInt, Section

__all__ = [
    "FieldError",
    "Name",
    "PathText",
    "PositiveInt",
    "Section",
    "long_form",
]

PathText = Annotated[str, Field(min_length=1), AfterValidator(expanded)]


def _only_text(value: Any) -> Any:
    """Column names that YAML read as a number or a boolean stay usable."""
    if isinstance(value, bool):
        raise ValueError(
            "YAML reads this word as true or false; put it in quotes"
        )
    return str(value) if isinstance(value, int) else value


Name = Annotated[str, Field(min_length=1), BeforeValidator(_only_text)]


def long_form(
    section: type[Section],
    value: Any,
    key: str,
    kinds: tuple[type, ...],
    accepted: str,
) -> Any:
    """A section's mapping, where a value of one key alone may stand for it.

    Args:
        section: the section.
        value: as the config has it.
        key: the key that a value of `kinds` is of.
        kinds: types of such a value.
        accepted: words for what the section takes.

    Raises:
        ValueError: it is of another type.
    """
    if isinstance(value, Mapping | section):
        return value
    if isinstance(value, kinds):
        return {key: value}
    raise ValueError(f"received {value!r}; accepted: {accepted}")
