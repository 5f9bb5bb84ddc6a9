"""The defaults that a resolved config shows are those of the optimizers."""

from __future__ import annotations

from inspect import signature
from typing import Any

import keras
import pytest

from optimizers import (
    Lion,
    build_optimizer,
    names,
    resolved,
    used,
    validate,
)
from optimizers.config.catalog import defaults

SCHEDULE = {"name": "exponential", "warmup": 0.1}
GROUPS = {
    "groups": [
        {"match": "wide/.*", "name": "ftrl", "learning_rate": 0.1},
        {"match": ".*", "name": "lion"},
    ],
    "schedule": {"name": "cosine"},
}


def signature_of(cls: Any) -> dict[str, Any]:
    """Argument -> default of a class, but for its name."""
    return {
        name: parameter.default
        for name, parameter in signature(cls).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD and name != "name"
    }


@pytest.mark.parametrize("name", sorted(set(names()) - {"lion"}))
def test_keras_has_these_defaults(name: str) -> None:
    classes = {cls.lower(): cls for cls in dir(keras.optimizers)}
    cls = getattr(keras.optimizers, classes[name])
    assert defaults(name) == signature_of(cls)


def test_lion_has_these_defaults() -> None:
    common = signature_of(keras.optimizers.SGD)
    for own in ("momentum", "nesterov"):
        del common[own]
    assert defaults("lion") == {**common, **signature_of(Lion)}


@pytest.mark.parametrize("keras_version", [3, 2])
@pytest.mark.parametrize("name", names())
def test_a_resolved_spec_is_the_same_optimizer(
    name: str, keras_version: int
) -> None:
    spec = {"name": name, "learning_rate": 0.125}
    full = resolved(spec)
    validate(full, keras_version)
    assert resolved(full) == full
    built = build_optimizer(full, 10, keras_version).get_config()
    given = build_optimizer(spec, 10, keras_version).get_config()
    if (name, keras_version) == ("rmsprop", 2):  # counts with use_ema only
        given["ema_overwrite_frequency"] = None
    assert {**built, "name": ""} == {**given, "name": ""}


def test_groups_and_schedules_are_resolved_too() -> None:
    full = resolved(GROUPS)
    validate(full)
    assert resolved(full) == full
    wide, deep = full["groups"]
    assert (wide["learning_rate"], wide["learning_rate_power"]) == (0.1, -0.5)
    assert deep["learning_rate"] == defaults("lion")["learning_rate"]
    assert full["schedule"] == {"name": "cosine", "warmup": 0, "final": 0.0}
    one = resolved({"name": "adam", "schedule": SCHEDULE})
    assert one["schedule"]["final"] == 0.01


class Own(keras.optimizers.SGD):
    """An optimizer of a user's own."""

    def __init__(self, learning_rate: float, pull: float = 0.25, **more: Any):
        super().__init__(learning_rate, **more)
        self.pull = pull


def test_what_was_used_has_the_defaults_of_the_users_own() -> None:
    name = f"{__name__}:Own"
    spec = {"name": name, "learning_rate": 0.5}
    assert used(spec) == {**spec, "pull": 0.25, "schedule": None}
    (group,) = used({"groups": [{"match": ".*", **spec}]})["groups"]
    assert group["pull"] == 0.25
    assert build_optimizer(used(spec), 10).pull == 0.25
    assert used({"name": "adam"}) == resolved({"name": "adam"})
