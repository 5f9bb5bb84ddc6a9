"""JSON schema of the config, for editors that complete and check the YAML."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from models.config import architectures
from optimizers.config.sections import (
    GroupConfig,
    GroupsConfig,
    OptimizerConfig,
)
from pipeline.config import PipelineConfig

_TEXT = {"type": "string"}
# YAML 1.1 reads off as false.
_ACTION = {"enum": ["warn", "stop", "off", False]}
# Section -> the JSON types that stand for a mapping of one key.
_SHORT: dict[str, tuple[dict[str, Any], ...]] = {
    "Calibrate": ({"enum": ["none", "platt", "isotonic", False]},),
    "Importance": ({"type": "boolean"},),
    "LabelTask": (_TEXT,),
    "CategoricalFeature": (_TEXT,),
    "DriftConfig": (_ACTION,),
    "NumericFeature": (_TEXT,),
    "Pretrained": (_TEXT,),
    "Retries": ({"type": "integer", "minimum": 0},),
    # YAML 1.1 reads off as a boolean, YAML 1.2 as text.
    "ServingGateConfig": ({"type": "boolean"}, {"enum": ["on", "off"]}),
    "TimeColumn": (_TEXT,),
    "TimeFeatures": ({"type": "array", "items": _TEXT},),
    "Weight": ({"type": ["string", "integer"]},),
}
# A single name stands for a list of one.
_ONE_OR_MANY = (
    ("LogFiles", "path"),
    ("ClickFiles", "path"),
    ("ClickFiles", "key"),
    ("ClickFiles", "impression_key"),
    ("Negatives", "key"),
    ("Split", "key"),
)


def schema() -> dict[str, Any]:
    """Schema of the whole file, short forms included."""
    sections: list[type[BaseModel]] = [
        *architectures.ARCHITECTURES.values(),
        architectures.OwnConfig,
    ]
    models: list[type[BaseModel]] = [
        PipelineConfig,
        *sections,
        *OptimizerConfig.sections(),
        GroupsConfig,
        *GroupConfig.sections(),
    ]
    _, document = models_json_schema(
        [(model, "validation") for model in models]
    )
    parts = document["$defs"]
    for section, short in _SHORT.items():
        whole = parts[section]
        parts[section] = {"anyOf": [*short, whole]}
    for section, field in _ONE_OR_MANY:
        _widen(parts[section]["properties"], field, _TEXT)
    _widen(parts["DataConfig"]["properties"], "leaks", {"const": False})
    _widen(parts["DriftConfig"]["anyOf"][1]["properties"], "action",
           {"const": False})  # fmt: skip
    _widen(
        parts["CategoricalFeature"]["anyOf"][1]["properties"],
        "weights",
        {"type": "boolean"},
    )
    # Paths of settings may stand beside the other keys of `tune`.
    parts["Tune"]["additionalProperties"] = True
    parts["Tune"].pop("required", None)
    # Every key of a model of your own goes to its function.
    parts["OwnConfig"]["additionalProperties"] = True
    for name, architecture in architectures.ARCHITECTURES.items():
        part = parts[architecture.__name__]
        part["properties"]["name"]["enum"] = [name]
        if name != "wide_deep":
            part["required"] = ["name"]
    parts["OwnConfig"]["properties"]["name"]["pattern"] = ":"
    optimizers: list[type[BaseModel]] = [
        *OptimizerConfig.sections(),
        GroupsConfig,
    ]
    top = parts.pop("PipelineConfig")
    for name, known in (
        ("model", sections),
        ("optimizer", optimizers),
    ):
        about = top["properties"][name]["description"]
        top["properties"][name] = {"description": about, **_any(known, _TEXT)}
    of_groups = parts["GroupsConfig"]["properties"]["groups"]
    of_groups |= {"items": _any(GroupConfig.sections()), "minItems": 1}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **top,
        "$defs": parts,
    }


def text() -> str:
    """Schema as JSON."""
    return json.dumps(schema(), indent=2)


def _any(
    sections: Iterable[type[BaseModel]], *short: dict[str, Any]
) -> dict[str, Any]:
    there = [{"$ref": f"#/$defs/{section.__name__}"} for section in sections]
    return {"anyOf": [*short, *there]}


def _widen(
    properties: dict[str, Any], field: str, short: dict[str, Any]
) -> None:
    old = properties[field]
    about = {k: old.pop(k) for k in ("description", "default") if k in old}
    choices = old.get("anyOf", [old])
    properties[field] = {**about, "anyOf": [short, *choices]}
