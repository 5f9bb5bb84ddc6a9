"""Base of a section whose `name` decides which other keys it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import ModelWrapValidatorHandler, model_validator

from optimizers.config.messages import nearest
from optimizers.config.section import FieldError, Section
from optimizers.extension import Registry

_FIRST = ("match", "name", "groups")  # of the keys in a message


class NamedSection(Section):
    """A section with a subclass for each name.

    A field of the config is of one class, the door, which has `_sections` and
    `_registry` and finds the subclass. `Door(name="dcn_v2")` is one too.
    """

    _sections: ClassVar[dict[str, type[Section]]]
    """Name -> section; "": of a user's own."""
    _registry: ClassVar[Registry]

    def __new__(cls, **options: Any) -> Self:
        """Create a section of the name in `options`."""
        section: Any = cls._section_of(options) if options else cls
        made: Self = super().__new__(section)
        return made

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
        name = cls._name(value)
        by = f" by {name}" if name else ""
        for key in value:
            if key not in known and cls.model_config["extra"] == "forbid":
                raise FieldError(
                    str(key),
                    f"unknown key{nearest(str(key), known)}."
                    f" Accepted{by}: {', '.join(known)}",
                )
        return handler(value)

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        """The mapping that a short form stands for."""
        return value

    @classmethod
    def _section_of(cls, value: Mapping[str, Any]) -> type[Section]:
        """The section of the name in `value`; `cls` where it is no door."""
        return cls._named(value) if "_sections" in vars(cls) else cls

    @classmethod
    def _named(cls, value: Mapping[str, Any]) -> type[Section]:
        try:
            name = cls._registry.check(cls._name(value))
        except ValueError as error:
            raise FieldError("name", str(error)) from None
        return cls._sections.get(name, cls._sections[""])

    @classmethod
    def _name(cls, value: Mapping[str, Any]) -> Any:
        field = cls.model_fields.get("name")
        return value.get("name", field.default if field else None)
