"""Checks of a spec: every message, without TensorFlow."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from optimizers import names, validate
from optimizers.config import automatic
from optimizers.config.arguments import KERAS_ARGUMENTS
from optimizers.config.catalog import OPTIMIZERS, SCHEDULES
from optimizers.registry import _optimizer_class

ROOT = Path(__file__).parents[2]
LION = {"name": "lion"}
FTRL = {"match": "wide/.*", "name": "ftrl"}
REST = {"match": ".*", "name": "lion"}


@pytest.mark.parametrize("module", ["optimizers", "optimizers.registry"])
def test_validating_imports_neither_tensorflow_nor_keras(module):
    program = (
        f"import sys, {module}, optimizers;"
        "optimizers.validate({'name': 'lion', 'schedule': {'name': 'cosine'}});"
        "optimizers.names(); optimizers.kernel_status();"
        "heavy = {'tensorflow', 'keras', 'numpy'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_lion_is_importable_by_name_and_nothing_unknown_is():
    import optimizers
    from optimizers import Lion

    assert Lion.__name__ == "Lion"
    assert set(optimizers.__all__) == set(dir(optimizers))
    with pytest.raises(AttributeError, match="no attribute 'Tiger'"):
        optimizers.Tiger  # noqa: B018


def test_names_are_the_optimizers_that_there_are():
    ours = "adafactor adagrad adam adamw ftrl lion rmsprop sgd"
    assert set(ours.split()) <= set(names())
    assert list(names()) == sorted(names())


def test_an_optimizer_without_searched_rates_has_that_of_its_class(monkeypatch):
    assert automatic.rates_of("sgd", "wide_deep", 1.0)["learning_rate"] == 0.1
    monkeypatch.delitem(automatic._RATES, "sgd")
    assert automatic.rates_of("sgd", "wide_deep", 1.0)["learning_rate"] == 0.01


@pytest.mark.parametrize("name", names())
def test_the_catalog_lists_the_arguments_of_the_class(name):
    parameters = inspect.signature(_optimizer_class(name)).parameters
    of_class = {
        p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD
    }
    listed = {*KERAS_ARGUMENTS, *OPTIMIZERS[name]}
    if name == "lion":
        of_class |= set(KERAS_ARGUMENTS)
    assert listed == of_class - {"name"}


@pytest.mark.parametrize(
    "spec",
    [
        LION,
        {**LION, "learning_rate": 1e-4, "weight_decay": 0, "sparse": "dense"},
        {**LION, "weight_decay": None, "momentum_dtype": None},
        {**LION, "schedule": None},
        *[{**LION, "schedule": {"name": name}} for name in SCHEDULES],
        {**LION, "schedule": {"name": "cosine", "warmup": 500, "final": 0.1}},
        {**LION, "schedule": {"name": "linear", "warmup": 0.05}},
        {"name": "ftrl", "schedule": {"name": "constant", "warmup": 10}},
        {"groups": [FTRL, REST], "schedule": {"name": "cosine"}},
        {"groups": (REST,), "loss_scale_factor": 128},
    ],
    ids=str,
)
def test_a_right_spec_passes(spec):
    validate(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lion", r"`optimizer` must be a mapping.*Received: 'lion'"),
        ({}, r"`optimizer` must have a `name`: one of adafactor.*Received: {}"),
        ({"name": "lyon"}, r"`optimizer.name`.*adam,.*'lyon'.*mean 'lion'\?"),
        ({"name": "Lion"}, r"Received: 'Lion' \(did you mean 'lion'\?\)"),
        ({"name": 3}, r"`optimizer.name`.*Received: 3$"),
        (
            {**LION, "learning_rat": 1e-4},
            r"`optimizer.learning_rat` is not known.*Accepted here: name,.*"
            r"beta_1.*Received: 0.0001 \(did you mean 'learning_rate'\?\)",
        ),
        ({"name": "sgd", "sparse": "lazy"}, r"`optimizer.sparse` is not known"),
        ({**LION, "learning_rate": 0}, r"`optimizer.learning_rate`.*> 0.*: 0$"),
        (
            {**LION, "learning_rate": "1e-4"},
            r"Received: '1e-4' \(text, not a number: YAML reads 1e-4 as text",
        ),
        ({**LION, "learning_rate": None}, r"number > 0. Received: None"),
        ({**LION, "beta_1": 1.0}, r"`optimizer.beta_1`.*\[0, 1\)"),
        ({**LION, "sparse": "fast"}, r"`optimizer.sparse`.*'decayed'.*'fast'"),
        ({**LION, "cautious": 1}, r"`optimizer.cautious`.*true or false.*: 1"),
        (
            {**LION, "momentum_dtype": "half"},
            r"`optimizer.momentum_dtype`.*or null. Received: 'half'",
        ),
        (
            {"name": "ftrl", "learning_rate_power": 0.5},
            r"`optimizer.learning_rate_power`.*<= 0. Received: 0.5",
        ),
        (
            {**LION, "gradient_accumulation_steps": 1},
            r"integer >= 2, or null. Received: 1",
        ),
        (
            {**LION, "clipnorm": 1, "clipvalue": 2},
            r"at most one of clipnorm, clipvalue, global_clipnorm",
        ),
        (
            {"name": "adafactor", "beta_2_decay": float("inf")},
            r"a finite number. Received: inf",
        ),
        ({**LION, "schedule": "cosine"}, r"`optimizer.schedule`.*mapping"),
        (
            {**LION, "schedule": {"name": "cosin"}},
            r"`optimizer.schedule.name`.*'constant', 'cosine'.*'cosin'",
        ),
        (
            {**LION, "schedule": {"name": "cosine", "warm": 3}},
            r"`optimizer.schedule.warm`.*Accepted.*mean 'warmup'\?",
        ),
        (
            {**LION, "schedule": {"name": "cosine", "warmup": 1.5}},
            r"`optimizer.schedule.warmup`.*\[0, 1\).*Received: 1.5",
        ),
        (
            {**LION, "schedule": {"name": "exponential", "final": 0}},
            r"`optimizer.schedule.final`.*\(0, 1\].*Received: 0",
        ),
        (
            {**LION, "schedule": {"name": "constant", "final": 0.5}},
            r"`optimizer.schedule.final` is not known",
        ),
        (
            {"name": "ftrl", "schedule": {"name": "cosine"}},
            r"must be 'constant' for 'ftrl'.*Received: 'cosine'",
        ),
        (
            {**LION, "sparse": "dense", "frequency_power": 0.35},
            r"`optimizer.frequency_power` must be 0 with sparse: dense",
        ),
        (
            {**LION, "sparse": "dense", "table_frequency_power": 0.35},
            r"`optimizer.table_frequency_power` must be 0 .*Received: 0.35",
        ),
        (
            {"name": "adam", "table_frequency_power": 0.35},
            r"`optimizer.table_frequency_power` is an argument of lion",
        ),
        (
            {**LION, "table_frequency_power": 2},
            r"`optimizer.table_frequency_power` .* \[0, 1\]. Received: 2",
        ),
        ({"groups": []}, r"`optimizer.groups`.*at least one.*Received: \[\]"),
        ({"groups": REST}, r"`optimizer.groups` must be a list"),
        (
            {"groups": [REST], "learning_rate": 1},
            r"`optimizer.learning_rate`.*Accepted here: groups",
        ),
        ({"groups": ["lion"]}, r"`optimizer.groups\[0\]` must be a mapping"),
        (
            {"groups": [LION]},
            r"`optimizer.groups\[0\].match`.*'wide/\.\*'.*Received: None",
        ),
        (
            {"groups": [FTRL, {**REST, "match": "(deep"}]},
            r"`optimizer.groups\[1\].match`.*\(missing \)",
        ),
        (
            {"groups": [REST, {**FTRL, "match": ".*"}]},
            r"groups\[1\].match` must differ.*groups\[0\].*Received: '\.\*'",
        ),
        (
            {"groups": [{**REST, "name": "adm"}]},
            r"`optimizer.groups\[0\].name`.*'adm'.*mean 'adam'\?",
        ),
        (
            {"groups": [{**REST, "loss_scale_factor": 2.0}]},
            r"given once for all groups.*Received: 2.0",
        ),
        (
            {"groups": [REST], "loss_scale_factor": -1},
            r"`optimizer.loss_scale_factor`.*> 0, or null. Received: -1",
        ),
    ],
    ids=str,
)
def test_a_wrong_spec_is_told_the_field_and_what_is_accepted(spec, message):
    with pytest.raises(ValueError, match=message):
        validate(spec)
