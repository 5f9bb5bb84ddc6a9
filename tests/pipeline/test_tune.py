"""The config section `tune`: what may be searched, and in which bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import ConfigError, PipelineConfig, load
from tests.pipeline.small import make_config

LOG = {"log": [1e-5, 1e-2]}


def with_tune(home: Path, tune: Any) -> PipelineConfig:
    """The small config with this section, from a real file."""
    values = make_config(home).resolved() | {"tune": tune}
    path = home / "small.yaml"
    path.write_text(yaml.safe_dump(values), "utf-8")
    return load(path)


@pytest.mark.parametrize(
    "tune",
    [
        {"optimizer.learning_rate": LOG, "trials": 3},
        {"optimizer": {"learning_rate": LOG}, "trials": 3},
        {"parameters": {"optimizer.learning_rate": LOG}, "trials": 3},
    ],
)
def test_paths_are_dotted_nested_or_under_parameters(
    tmp_path: Path, tune: dict[str, Any]
) -> None:
    found = with_tune(tmp_path, tune).tune
    assert found is not None
    assert found.trials == 3
    assert found.parameters == {
        "optimizer.learning_rate": {"log": (1e-5, 1e-2)}
    }


@pytest.mark.parametrize("dotted", [True, False])
def test_bounds_are_replaced_however_they_are_written(
    tmp_path: Path, dotted: bool
) -> None:
    path = "optimizer.learning_rate"
    tune = {path: LOG} if dotted else {"optimizer": {"learning_rate": LOG}}
    with_tune(tmp_path, tune)
    found = load(tmp_path / "small.yaml", [f"tune.{path}={{linear: [1, 2]}}"])
    assert found.tune is not None
    assert found.tune.parameters == {path: {"linear": (1, 2)}}


def test_a_resolved_config_loads_again(tmp_path: Path) -> None:
    first = with_tune(tmp_path, {"model.hidden": {"choice": [[8], [16, 8]]}})
    again = with_tune(tmp_path, first.resolved()["tune"])
    assert again.sha256() == first.sha256()


@pytest.mark.parametrize(
    ("tune", "words"),
    [
        ({}, ("tune", "at least one path")),
        ({"trails": 3}, ("trails", "trials")),
        ({"trials": 0, "model.dropout": LOG}, ("tune.trials", "0")),
        ({"algorithm": "best", "model.dropout": LOG}, ("best", "bayesian")),
        ({"train.epochs": 3}, ("train.epochs", "{int: [low, high]}")),
        ({"train.epochs": {"into": [1, 2]}}, ("train.epochs", "{choice:")),
        ({"train.epochs": {"int": [1.5, 2]}}, ("train.epochs", "whole")),
        ({"train.epochs": {"int": [2, 1]}}, ("train.epochs", "lower")),
        ({"train.epochs": {"int": [1]}}, ("train.epochs", "[low, high]")),
        ({"model.dropout": {"log": [0, 0.5]}}, ("model.dropout", "above 0")),
        ({"model.dropout": {"choice": []}}, ("model.dropout", "choice")),
        (
            {"model.dropout": {"linear": [0, 1]}},
            ("model.dropout = 1", "less than 1"),
        ),
        (
            {"optimizer.learning_rate": {"linear": [-1, 1]}},
            ("optimizer.learning_rate = -1", "> 0"),
        ),
        (
            {"optimizer.name": {"choice": ["lion", "lino"]}},
            ("optimizer.name = 'lino'", "did you mean 'lion'"),
        ),
        (
            {"model.hiden": {"choice": [[8]]}},
            ("model.hiden", "did you mean 'hidden'"),
        ),
        (
            {"features.categorical.sight.dim": {"int": [2, 8]}},
            ("features.categorical.sight.dim", "name"),
        ),
        (
            {"features.categorical.site.max_size": {"int": [2, 8]}},
            ("features.categorical.site.max_size", "Transform"),
        ),
        ({"data.split.eval": {"linear": [0.1, 0.2]}}, ("data.split.eval",)),
        (
            {
                "optimizer.learning_rate": LOG,
                "optimizer": {"learning_rate": LOG},
            },
            (
                "`optimizer.learning_rate: ...`",
                "`optimizer: {learning_rate: ...}`",
            ),
        ),
        (
            {"parameters": {"model.dropout": LOG}, "model": {"dropout": LOG}},
            ("`parameters: model.dropout: ...`", "`model: {dropout: ...}`"),
        ),
        (
            {
                "train.early_stopping": {"choice": [None]},
                "train.early_stopping.patience": {"int": [1, 2]},
            },
            ("train.early_stopping.patience", "part of"),
        ),
    ],
)
def test_a_mistake_is_answered_with_the_path(
    tmp_path: Path, tune: Any, words: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as error:
        with_tune(tmp_path, tune)
    for word in words:
        assert word in str(error.value)
