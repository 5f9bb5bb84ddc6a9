"""Every config field says what it is; the JSON schema tells editors."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import BaseModel, ValidationError

from models.config import architectures
from optimizers.config.sections import (
    GroupConfig,
    GroupsConfig,
    OptimizerConfig,
)
from pipeline import cli, schema
from pipeline.config import PipelineConfig

MINIMAL = {
    "name": "ads",
    "data": {
        "impressions": {"path": "a.tsv", "format": "tsv", "header": True},
        "label": "click",
        "time": "timestamp",
    },
    "features": {"categorical": ["device"], "numeric": [{"name": "price"}]},
}


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema.schema())


def _sections() -> list[type[BaseModel]]:
    waiting: list[type[BaseModel]] = [
        PipelineConfig,
        *architectures.ARCHITECTURES.values(),
        architectures.OwnConfig,
        *OptimizerConfig.sections(),
        GroupsConfig,
        *GroupConfig.sections(),
    ]
    found: list[type[BaseModel]] = []
    while waiting:
        section = waiting.pop()
        if section not in found:
            found.append(section)
            for field in section.model_fields.values():
                waiting += _inside(field.annotation)
    return found


def _inside(annotation) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [
        section
        for argument in getattr(annotation, "__args__", ())
        for section in _inside(argument)
    ]


@pytest.mark.parametrize("section", _sections(), ids=lambda s: s.__name__)
def test_every_field_has_a_description(section):
    without = [
        name
        for name, field in section.model_fields.items()
        if not field.description
    ]
    assert not without


def test_the_command_prints_the_schema_with_descriptions(capsys):
    assert cli.main(["config", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"name", "data", "features"} <= set(schema["required"])
    train = schema["$defs"]["TrainConfig"]["properties"]
    assert train["epochs"]["description"]
    assert schema["additionalProperties"] is False


_WHOLE = Path(__file__).parents[2].glob("configs/*.yaml")


@pytest.mark.parametrize("path", sorted(_WHOLE), ids=lambda p: p.stem)
def test_the_schema_takes_every_shipped_config(path):
    validator().validate(yaml.safe_load(path.read_text("utf-8")))


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("model", "dcn_v2"),
        ("model", {"name": "dcn_v2", "cross_layers": 2}),
        ("model", {"name": "my_models:build", "towers": 3}),
        ("evaluate", {"importance": True}),
        ("data", {**MINIMAL["data"], "weight": "value"}),
        (
            "features",
            {
                "numeric": [
                    {"name": "n", "clip": [0, None], "missing": "indicator"}
                ],
                "categorical": [
                    {"name": "a", "list": "|", "weights": True},
                    {"name": "b", "list": "|", "weights": ":"},
                    {"name": "c", "pretrained": "c.csv"},
                ],
                "vectors": [{"name": "v", "size": 4}],
                "time": ["hour"],
            },
        ),
        ("evaluate", {"importance": {"rows": 1000}}),
        ("evaluate", {"calibrate": "none"}),
        ("optimizer", "adam"),
        ("optimizer", {"name": "lion", "learning_rate": 1e-4}),
        ("optimizer", {"table_rate": 1e-3, "table_beta_2": "auto"}),
        ("optimizer", {"name": "my_rules:Own", "learning_rate": 1, "pull": 2}),
        (
            "optimizer",
            {
                "groups": [
                    {"match": "wide/.*", "name": "ftrl", "beta": 0.5},
                    {"match": ".*", "name": "lion"},
                ],
                "schedule": {"name": "cosine", "warmup": 0.1},
            },
        ),
        ("data", {**MINIMAL["data"], "drift": "stop", "leaks": False}),
        ("data", {**MINIMAL["data"], "drift": False, "leaks": "warn"}),
        (
            "data",
            {
                **MINIMAL["data"],
                "drift": {"action": False, "features": {"price": None}},
            },
        ),
        ("tune", {"trials": 2, "model.dropout": {"linear": [0.0, 0.5]}}),
        ("serving_gate", False),
        ("serving_gate", "off"),
        ("serving_gate", {"rows": 50, "p99_ms": None}),
    ],
)
def test_the_schema_takes_what_the_loader_takes(section, value):
    config = {**MINIMAL, section: value}
    PipelineConfig.model_validate(config)
    validator().validate(config)


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("train", {"epoch": 2}),
        ("model", {"name": "dlrm", "cross_layers": 2}),
        ("evaluate", {"metrics": {"auc": {"least": 0.5}}}),
        ("optimizer", {"learning_rat": 0.1}),
        ("optimizer", {"name": "adam", "sparse": "lazy"}),
        ("optimizer", {"name": "sgd", "learning_rate": -1}),
        ("optimizer", {"groups": []}),
        ("optimizer", {"groups": [{"match": ".*", "name": "lyon"}]}),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(section, value):
    with pytest.raises(ValidationError):
        PipelineConfig.model_validate({**MINIMAL, section: value})
    with pytest.raises(jsonschema.ValidationError):
        validator().validate({**MINIMAL, section: value})
