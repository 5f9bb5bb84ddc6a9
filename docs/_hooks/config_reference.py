"""Generate the config reference of the manual from the pydantic models."""

from __future__ import annotations

import json
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.config import architectures, losses
from optimizers.config.arguments import Arguments
from optimizers.config.catalog import ARGUMENTS
from optimizers.config.sections import (
    GroupConfig,
    GroupsConfig,
    OptimizerConfig,
    Schedule,
)
from pipeline.config import PipelineConfig

PAGE = "config.md"
_MARK = "<!-- reference -->"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replaces the mark in `config.md` by the reference (an mkdocs hook)."""
    if page.file.src_uri != PAGE:
        return markdown
    return markdown.replace(_MARK, reference())


def reference() -> str:
    """Markdown: a table for each section of the config, its fields a row."""
    parts = [_section("(top level)", PipelineConfig)]
    waiting = [("", PipelineConfig)]
    while waiting:
        path, model = waiting.pop(0)
        for name, field in model.model_fields.items():
            for inner in _models(field.annotation):
                where = f"{path}.{name}".lstrip(".")
                parts.append(_section(where, inner))
                waiting.append((where, inner))
    parts += [
        _section(f"model, `name: {model.model_fields['name'].default}`", model)
        for model in _subclasses(architectures.ModelConfig)
        if model.model_fields["name"].default
    ]
    parts += [
        _section(
            f"train.loss, `name: {model.model_fields['name'].default}`", model
        )
        for model in _subclasses(losses.LossConfig)
        if model.model_fields["name"].default
    ]
    one = {section.__name__: section for section in OptimizerConfig.sections()}
    parts += [
        _section("optimizer, `groups: [...]`", GroupsConfig),
        _section("`optimizer.groups.0`", GroupConfig),
        _section("`optimizer.schedule`", Schedule),
        _section("optimizer, every name", Arguments),
    ]
    parts += [
        _section(
            f"optimizer, `name: {name}`",
            one[f"{section.__name__.removesuffix('Arguments')}Config"],
            apart_from=Arguments,
        )
        for name, section in ARGUMENTS.items()
    ]
    return "\n\n".join(parts)


def _section(
    path: str,
    model: type[BaseModel],
    apart_from: type[BaseModel] | None = None,
) -> str:
    known = apart_from.model_fields if apart_from else {}
    title = path if "`" in path or path.startswith("(") else f"`{path}`"
    lines = [f"### {title}", "", _prose(model.__doc__ or ""), ""]
    lines += ["| field | accepts | default |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        if name in known and known[name].default == field.default:
            continue
        about = f"<br>{_cell(field.description)}" if field.description else ""
        key = field.alias or name
        lines.append(
            f"| `{key}`{about} | {_cell(_type(field.annotation))} |"
            f" {_default(field)} |"
        )
    return "\n".join(lines)


def _prose(doc: str) -> str:
    text = "\n".join(line.strip() for line in doc.strip().splitlines())
    body, _, arguments = text.partition("Args:\n")
    if not arguments:
        return body
    items: list[str] = []
    for line in arguments.splitlines():
        name, colon, rest = line.partition(": ")
        if colon and name.replace(", ", "").isidentifier():
            items.append(f"- `{name}`: {rest}")
        elif line and items:
            items[-1] += f" {line}"
    return body.strip() + "\n\n" + "\n".join(items)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is PydanticUndefined or isinstance(value, BaseModel):
        return "see its section"
    if isinstance(value, Mapping | tuple) and value:
        return "see its section"
    return f"`{json.dumps(value, default=str)}`"


def _type(annotation: Any) -> str:
    origin, arguments = (
        typing.get_origin(annotation),
        typing.get_args(annotation),
    )
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is typing.Literal:
        return ", ".join(f"`{a}`".lower() for a in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(a) for a in arguments))
    if origin in (tuple, list):
        inner = [a for a in arguments if a is not Ellipsis]
        return f"list of {_type(inner[0])}" if inner else "list"
    if origin is dict:
        return f"mapping of {_type(arguments[0])} to {_type(arguments[1])}"
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    names = {str: "text", int: "integer", float: "number", bool: "true, false"}
    return names.get(annotation, getattr(annotation, "__name__", "value"))


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [
        model
        for argument in typing.get_args(annotation)
        for model in _models(argument)
    ]


def _subclasses(model: type[BaseModel]) -> list[type[Any]]:
    found: list[type[Any]] = []
    for child in model.__subclasses__():
        found += [child, *_subclasses(child)]
    return found
