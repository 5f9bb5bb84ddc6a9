"""Base of a section whose `name` decides which other keys it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ModelWrapValidatorHandler, model_validator

from optimizers.config.messages import nearest
from optimizers.config.section import FieldError, Section

_FIRST = ("match", "name", "groups")  # of the keys in a message


class NamedSection(Section):
    """A section with a subclass for each name.

    The door, which a field of the config is of, finds the subclass by
    `_section_of`.
    """

    @model_validator(mode="wrap")
    @classmethod
    def _by_name(
        cls, value: Any, handler: ModelWrapValidatorHandler[Any]
    ) -> Any:
        """The keys of this name, and no others."""
        value = cls._long_form(value)
        if not isinstance(value, Mapping):
            return handler(value)
        section = cls._section_of(value)
        if section is not cls:
            return section.model_validate(value)
        known = sorted(cls.model_fields, key=lambda key: key not in _FIRST)
        for key in value:
            if key not in known and cls.model_config["extra"] == "forbid":
                raise FieldError(
                    str(key),
                    f"unknown key{nearest(str(key), known)}."
                    f" Accepted: {', '.join(known)}",
                )
        return handler(value)

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        """The mapping that a short form stands for."""
        return value

    @classmethod
    def _section_of(cls, value: Mapping[str, Any]) -> type[Section]:
        """The section of the name in `value`; `cls` where it is that one."""
        return cls
