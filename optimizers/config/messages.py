"""Messages about a wrong config: field, received, accepted."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from optimizers.config.section import FieldError
from optimizers.extension import Registry

TOP = "(top level)"
"""Field of a problem of the whole."""

_SHOWN = 20  # problems
_WIDEST = 200  # characters of a received value

Model = type[BaseModel]
Loc = tuple[int | str, ...]


def problems(
    error: ValidationError, root: Model, above: tuple[str, ...] = ()
) -> tuple[dict[str, str], int]:
    """Field -> received and accepted; and how many more fields are wrong.

    Args:
        error: of pydantic.
        root: the section at the top, to which the paths belong.
        above: the path of what was validated.
    """
    found: dict[str, str] = {}
    more: set[str] = set()
    for item in error.errors(include_url=False):
        if item["type"] == "too_short" and _long_enough(item):
            continue  # pydantic counts values that are right
        loc = above + item["loc"]
        walk = _Walk(root, loc, item["type"])
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, FieldError) and cause.field:
            walk.parts += cause.field.split(".")
        field = ".".join(walk.parts) or TOP
        if field not in found and len(found) == _SHOWN:
            more.add(field)
            continue
        text = _text(item, walk)
        if field in found and "; accepted: " in found[field]:
            _, _, accepted = text.partition("; accepted: ")
            if accepted and not found[field].endswith(accepted):
                text = f"{found[field]}, or {accepted}"
        found[field] = text
    return found, len(more)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that was meant, or nothing."""
    if ":" in str(name):
        return " (YAML wants a space after the colon)"
    close = difflib.get_close_matches(str(name), list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def counted(number: int, noun: str) -> str:
    """A number and its noun: 1 step, 2,000 steps."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def shown(value: Any) -> str:
    """A received value, cut where it is long; null as YAML writes it."""
    text = "null" if value is None else repr(value)
    if len(text) > _WIDEST:
        return f"{text[:_WIDEST]}... ({len(text):,} characters)"
    return text


def keys(section: Model) -> dict[str, FieldInfo]:
    """Fields of a section by their key in the file."""
    fields = section.model_fields.items()
    return {field.alias or name: field for name, field in fields}


_KINDS = {
    "bool": "true or false",
    "float": "a number",
    "int": "an integer",
    "string": "text",
    "dict": "a mapping, such as {key: value}",
    "date": "a date, such as 2024-01-31",
}


def _text(item: Any, walk: _Walk) -> str:
    kind = item["type"]
    if kind == "extra_forbidden":
        known = keys(walk.sections[-1])
        return (
            f"unknown key{nearest(walk.parts[-1], known)}."
            f" Accepted: {', '.join(known)}"
        )
    if kind == "missing":
        names = _names(walk.field)
        return f"missing; it is required{names and f'. Accepted: {names}'}"
    if kind == "value_error":
        cause = item["ctx"]["error"]
        return cause.message if isinstance(cause, FieldError) else str(cause)
    received = shown(item["input"])
    if kind == "invalid_key":
        return f"received {received} as a key; accepted: text, in quotes"
    return f"received {received}; accepted: {_accepted(item, walk)}"


def _names(field: FieldInfo | None) -> str:
    """The values of a field that takes a few names; "" of any other."""
    if field is None:
        return ""
    for option in _options(field.annotation):
        if typing.get_origin(option) is typing.Literal:
            return ", ".join(map(str, typing.get_args(option)))
    for part in field.metadata:
        registry = getattr(getattr(part, "func", None), "__self__", None)
        if isinstance(registry, Registry):
            return registry.accepted
    return ""


def _named(section: Any) -> bool:
    """True if a name alone stands for the section."""
    long_form = getattr(section, "_long_form", None)
    return long_form is not None and isinstance(long_form("a"), dict)


def _accepted(item: Any, walk: _Walk) -> str:
    kind, received = item["type"], item["input"]
    if kind in ("model_type", "model_attributes_type"):
        section = walk.sections[-1]
        fields = ", ".join(keys(section)) or "name, ..."
        return f"a mapping with {fields}{', or a name alone' * _named(section)}"
    if kind in ("tuple_type", "list_type"):
        example, depth = _example(walk.annotation, received)
        return f"a list{' of lists' * (depth > 1)}, such as {example}"
    if kind == "too_short":
        return (
            f"a list of {counted(item['ctx']['min_length'], 'value')} or more"
        )
    if kind == "too_long":
        return (
            f"a list of at most {counted(item['ctx']['max_length'], 'value')}"
        )
    if kind == "string_too_short" and item["ctx"]["min_length"] == 1:
        return "text that is not empty"
    if kind == "string_too_long":
        most = item["ctx"]["max_length"]
        return f"text of at most {counted(most, 'character')}"
    if kind == "string_pattern_mismatch":
        return f"text that matches {item['ctx']['pattern']}"
    if kind == "finite_number":
        return "a finite number"
    if kind == "less_than" and item["ctx"]["lt"] == 2**63:
        return "an integer below 2^63"
    if kind == "string_type" and isinstance(received, int | float):
        return "text; put it in quotes"
    start = kind.partition("_")[0]
    if kind.endswith(("_type", "_parsing", "_from_float", "_parsing_size")):
        return _KINDS.get(start, _plain(item["msg"]))
    return _plain(item["msg"])


def _plain(message: str) -> str:
    return message.removeprefix("Input should be ")


def _long_enough(item: Any) -> bool:
    return len(item["input"]) >= int(item["ctx"]["min_length"])


def _example(annotation: Any, received: Any) -> tuple[str, int]:
    """A list as it would be right, and how many lists it has in another."""
    depth, inner = 0, [annotation]
    while lists := [a for a in inner if typing.get_origin(a) is tuple]:
        depth += 1
        inner = list(_options(typing.get_args(lists[0])[0]))
    value = "..."
    models = [a for a in inner if _is_model(a)]
    if isinstance(received, str | int | float):
        value = str(received)[:40]
    elif models:
        needed = [n for n, f in keys(models[0]).items() if f.is_required()]
        value = f"{{{', '.join(f'{name}: ...' for name in needed) or '...'}}}"
    return "[" * depth + value + "]" * depth, depth


class _Walk:
    """The way from the top of the config to a place in it.

    sections: the models on the way. parts: the path as the file has it,
    without pydantic's tags for the branch of a union. annotation: of what is
    there. field: the last one on the way.
    """

    def __init__(self, root: Model, loc: Loc, kind: str) -> None:
        self.sections: list[Model] = [root]
        self.parts: list[str] = []
        self.annotation: Any = root
        self.field: FieldInfo | None = None
        for number, part in enumerate(loc):
            last = number == len(loc) - 1
            known = self._step(part)
            if known or (last and kind in ("extra_forbidden", "invalid_key")):
                self.parts.append(str(part))

    def _step(self, part: int | str) -> bool:
        options = list(_options(self.annotation))
        for model in filter(_is_model, options):
            for section in _with_subclasses(model):
                if part in (known := keys(section)):
                    self.field = known[str(part)]
                    return self._enter(self.field.annotation)
        for option in options:
            arguments = typing.get_args(option)
            origin = typing.get_origin(option)
            if origin is dict and part != "[key]":
                return self._enter(arguments[1])
            if origin is tuple and (isinstance(part, int) or part.isdigit()):
                return self._enter(arguments[0])
        return isinstance(part, int)

    def _enter(self, annotation: Any) -> bool:
        self.annotation = annotation
        self.sections += [a for a in _options(annotation) if _is_model(a)][:1]
        return True


def _options(annotation: Any) -> Iterator[Any]:
    """The types of a union, without what is annotated."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        yield from _options(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for argument in typing.get_args(annotation):
            yield from _options(argument)
    else:
        yield annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _with_subclasses(model: Model) -> Iterator[Model]:
    yield model
    for below in model.__subclasses__():
        yield from _with_subclasses(below)
