"""Checks of a spec: every message, without TensorFlow."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from optimizers import names, validate
from optimizers.config import automatic, sections
from optimizers.config.catalog import defaults
from optimizers.registry import _optimizer_class

SHAPES = ("constant", "cosine", "exponential", "linear")
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


def test_no_source_of_a_generated_section_is_looked_for(monkeypatch):
    """`inspect` looks through every module that is imported, TensorFlow's too.

    An import of the optimizers after TensorFlow took 4 s of CPU time more.
    """

    def looked(*arguments):
        raise AssertionError(arguments)

    monkeypatch.setattr(inspect, "getmodule", looked)
    for door in (sections.OneConfig, sections.GroupConfig):
        made = sections._sections(door, "Again")
        assert set(made) == set(names())
        for name, section in made.items():
            assert section.model_fields.keys() >= {"name", "learning_rate"}
            about = section.model_fields["learning_rate"].description
            assert about, name


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
    listed = set(defaults(name))
    if name == "lion":
        of_class |= set(defaults("sgd")) - {
            "momentum",
            "nesterov",
        }
    assert listed == of_class - {"name"}


@pytest.mark.parametrize(
    "spec",
    [
        LION,
        {**LION, "learning_rate": 1e-4, "weight_decay": 0, "sparse": "dense"},
        {**LION, "weight_decay": None, "momentum_dtype": None},
        {**LION, "schedule": None},
        *[{**LION, "schedule": {"name": name}} for name in SHAPES],
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
        (3, r": received 3; accepted: a mapping with name"),
        ({"groups": [{"match": ".*"}]}, r".groups.0.name: missing; accepted"),
        ({"name": "lyon"}, r".name: no optimizer.*'lyon'.*mean 'lion'\?.*sgd"),
        ({"name": "Lion"}, r".name: .*'Lion' \(did you mean 'lion'\?\)"),
        ({"name": 3}, r".name: no optimizer has the name 3. Accepted: adaf"),
        (
            {**LION, "learning_rat": 1e-4},
            (
                r".learning_rat: unknown key \(did you mean"
                r" 'learning_rate'\?\). Accepted by lion: name,.*beta_1"
            ),
        ),
        ({"name": "sgd", "sparse": "lazy"}, r".sparse: unknown key. Accepted"),
        (
            {**LION, "learning_rate": 0},
            r".learning_rate: received 0; accepted: greater than 0, or 'auto'$",
        ),
        (
            {**LION, "learning_rate": "1e-4"},
            r".learning_rate: received '1e-4' \(text: YAML reads 1e-4 as text",
        ),
        (
            {**LION, "learning_rate": None},
            r".learning_rate: received null; accepted: a num",
        ),
        (
            {**LION, "beta_1": 1.0},
            r".beta_1: received 1.0; accepted: less than 1",
        ),
        ({**LION, "sparse": "fast"}, r".sparse: received 'fast'.*'decayed'"),
        ({**LION, "kernel": "cuda"}, r".kernel: received 'cuda'.*'custom_op'"),
        ({**LION, "cautious": 1}, r".cautious: received 1.*true or false"),
        (
            {**LION, "momentum_dtype": "half"},
            r".momentum_dtype: received 'half'; accepted:.*'float16'",
        ),
        (
            {"name": "ftrl", "learning_rate_power": 0.5},
            r".learning_rate_power: received 0.5; accepted: .* equal to 0",
        ),
        (
            {**LION, "gradient_accumulation_steps": 1},
            r".gradient_accumulation_steps: received 1; .* equal to 2",
        ),
        (
            {**LION, "clipnorm": 1, "clipvalue": 2},
            (
                r".clipvalue: received .*'clipnorm': 1.*accepted: at most one"
                r" of clipnorm, clipvalue, global_clipnorm"
            ),
        ),
        (
            {"name": "adafactor", "beta_2_decay": float("inf")},
            r".beta_2_decay: received inf; accepted: a finite number",
        ),
        ({**LION, "schedule": "cosine"}, r".schedule: received.*a mapping"),
        (
            {**LION, "schedule": {"name": "cosin"}},
            r".schedule.name: received 'cosin'; .*'constant', 'cosine'",
        ),
        (
            {**LION, "schedule": {"name": "cosine", "warm": 3}},
            r".schedule.warm: unknown key.*mean 'warmup'\?.*Accepted: name",
        ),
        (
            {**LION, "schedule": {"name": "cosine", "warmup": 1.5}},
            r".schedule.warmup: received 1.5; accepted:.*\[0, 1\)",
        ),
        (
            {**LION, "schedule": {"name": "exponential", "final": 0}},
            r".schedule.final: received 0.0 with.*accepted:.*\(0, 1\]",
        ),
        (
            {**LION, "schedule": {"name": "constant", "final": 0.5}},
            r".schedule.final: received 0.5 with.*constant; accepted: null$",
        ),
        (
            {"name": "ftrl", "schedule": {"name": "cosine"}},
            r".schedule.name: received 'cosine'; .*'constant' for 'ftrl'",
        ),
        (
            {**LION, "sparse": "dense", "frequency_power": 0.35},
            r".frequency_power: received 0.35; accepted: 0 with sparse: dense",
        ),
        (
            {**LION, "sparse": "dense", "table_frequency_power": 0.35},
            r".table_frequency_power: received 0.35; accepted: 0 with sparse",
        ),
        (
            {"name": "adam", "table_frequency_power": 0.35},
            (
                r".table_frequency_power: unknown key. Accepted by adam: name,"
                r".*amsgrad"
            ),
        ),
        (
            {**LION, "table_frequency_power": 2},
            r".table_frequency_power: received 2; .*equal to 1",
        ),
        ({"groups": []}, r".groups: received \[\]; accepted:.*at least one"),
        ({"groups": REST}, r".groups: received {.*; accepted: a list"),
        (
            {"groups": [REST], "learning_rate": 1},
            r".learning_rate: unknown key. Accepted: groups,",
        ),
        ({"groups": ["lion"]}, r".groups.0: received 'lion'.*a mapping"),
        (
            {"groups": [LION]},
            r".groups.0.match: missing; it is required",
        ),
        (
            {"groups": [FTRL, {**REST, "match": "(deep"}]},
            r".groups.1.match: received '\(deep' \(missing \)",
        ),
        (
            {"groups": [REST, {**FTRL, "match": ".*"}]},
            r".groups.1.match: received '\.\*'.*other.*than that of groups.0",
        ),
        (
            {"groups": [{**REST, "name": "adm"}]},
            r".groups.0.name: .*'adm'.*mean 'adam'\?",
        ),
        (
            {"groups": [{**REST, "learning_rate": -1}]},
            r".groups.0.learning_rate: received -1; accepted: greater than 0",
        ),
        (
            {"groups": [{**REST, "loss_scale_factor": 2.0}]},
            r".groups.0.loss_scale_factor: received 2.0; .*for all groups",
        ),
        (
            {"groups": [REST], "loss_scale_factor": -1},
            r".loss_scale_factor: received -1; accepted: greater than 0",
        ),
    ],
    ids=str,
)
def test_a_wrong_spec_is_told_the_field_and_what_is_accepted(spec, message):
    with pytest.raises(ValueError, match=f"^optimizer{message}"):
        validate(spec)


def test_every_wrong_field_of_a_spec_is_told_at_once():
    spec = {**LION, "beta_1": 1.0, "schedule": {"name": "cosin", "warm": 3}}
    with pytest.raises(ValueError, match="cosin") as error:
        validate(spec)
    fields = [line.split(":")[0] for line in str(error.value).splitlines()]
    assert sorted(fields) == [
        "optimizer.beta_1",
        "optimizer.schedule.name",
        "optimizer.schedule.warm",
    ]
