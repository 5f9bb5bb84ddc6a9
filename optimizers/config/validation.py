"""Checks of what a configuration says about an optimizer, without Keras."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any

from optimizers.config.arguments import (
    Argument,
    SettingError,
    choice,
    number,
    refusal,
)
from optimizers.config.catalog import (
    AUTO,
    CLASSES,
    FIXED_RATE,
    KERAS_ARGUMENTS,
    LIMITS,
    NON_NEGATIVE,
    NOT_IN_KERAS_2,
    OPTIMIZERS,
    SCHEDULES,
    TABLE_ARGUMENTS,
    names,
)
from optimizers.kernel import resolve_kernel

_OF_LION = ("table_beta_2", "table_frequency_power")
_WARMUP = Argument(
    "an integer >= 0 (steps) or a number in [0, 1) (share of the run)",
    lambda value: (
        NON_NEGATIVE.test(value) and (value < 1 or float(value).is_integer())
    ),
)


def validate(spec: Mapping[str, Any], keras: int = 3) -> None:
    """Checks a spec (see `build_optimizer`) as far as is possible unbuilt.

    Args:
        spec: see there.
        keras: 3, or 2 for a model of the package tf_keras.

    Raises:
        SettingError: names the field, what was received, what is accepted.
    """
    _mapping("", spec)
    if "groups" in spec:
        _known_keys("", spec, ("groups", "loss_scale_factor", "schedule"))
        KERAS_ARGUMENTS["loss_scale_factor"].check_setting(
            "loss_scale_factor", spec.get("loss_scale_factor")
        )
        _check_groups(spec["groups"])
    else:
        _check_tables(spec)
        _check_optimizer("", _without_tables(spec), ("schedule",))
    if spec.get("schedule") is not None:
        _check_schedule(spec["schedule"], str(spec.get("name")))
    if keras == 2:
        _check_keras_2("", spec)
        for number_, group in enumerate(spec.get("groups", ())):
            _check_keras_2(f"groups.{number_}.", group)


def check_frequency(power: float | None, sparse: str) -> str:
    """Accepted values, if rows are counted that no mode tells apart; or "".

    Args:
        power: Lion's `frequency_power`, valid by itself.
        sparse: Lion's `sparse`.
    """
    if power and sparse == "dense":
        return (
            "0 with sparse: dense, which updates every row in every step;"
            " others beside lazy and decayed"
        )
    return ""


def _check_tables(spec: Mapping[str, Any]) -> None:
    for key, argument in TABLE_ARGUMENTS.items():
        value = spec.get(key)
        if value is not None and value != AUTO:
            argument.check_setting(key, value)
    for key in _OF_LION:
        if key in spec and spec.get("name") not in (None, "lion"):
            raise SettingError(
                key,
                f"received {spec[key]!r} with name {spec['name']!r};"
                " accepted: nothing, since it is an argument of lion",
            )
    power = spec.get("table_frequency_power")
    if power != AUTO:
        _check_power("table_frequency_power", power, spec)


def _check_power(field: str, power: Any, spec: Mapping[str, Any]) -> None:
    accepted = check_frequency(power, spec.get("sparse", "lazy"))
    if accepted:
        raise refusal(field, power, accepted)


def _without_tables(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec without rates to be chosen and arguments of tables."""
    return {
        key: value
        for key, value in spec.items()
        if key not in TABLE_ARGUMENTS
        and not (key == "learning_rate" and value == AUTO)
    }


def _check_keras_2(within: str, spec: Mapping[str, Any]) -> None:
    if CLASSES.is_own(spec.get("name")):
        raise refusal(
            f"{within}name",
            spec["name"],
            f"for a Keras 2 model, {', '.join(names())}",
        )
    for key in NOT_IN_KERAS_2:
        if spec.get(key) is not None:
            raise refusal(
                f"{within}{key}",
                spec[key],
                "null for a Keras 2 model, such as those of TensorFlow"
                " Recommenders: tf_keras's optimizers do not have it",
            )


def _check_groups(groups: Any) -> None:
    if not isinstance(groups, (list, tuple)) or not groups:
        raise refusal(
            "groups",
            groups,
            "a list of at least one group, each"
            " {match: <regex>, name: <optimizer>, ...}",
        )
    seen: dict[str, str] = {}
    for position, group in enumerate(groups):
        within = f"groups.{position}"
        _mapping(within, group)
        pattern = group.get("match")
        _check_pattern(f"{within}.match", pattern)
        if pattern in seen:
            raise refusal(
                f"{within}.match",
                pattern,
                f"another one than that of {seen[pattern]}, which takes every"
                " variable first",
            )
        seen[pattern] = within
        if "loss_scale_factor" in group:
            raise refusal(
                f"{within}.loss_scale_factor",
                group["loss_scale_factor"],
                "nothing here; optimizer.loss_scale_factor counts for all"
                " groups",
            )
        _check_optimizer(f"{within}.", group, ("match",))


def _check_optimizer(
    within: str, spec: Mapping[str, Any], structural: tuple[str, ...]
) -> None:
    """Checks one optimizer; `within` is the path of its section, and a dot."""
    if "name" not in spec:
        raise SettingError(
            f"{within}name", f"missing; accepted: {', '.join(names())}"
        )
    try:
        name = CLASSES.check(spec["name"])
    except ValueError as error:
        raise SettingError(f"{within}name", str(error)) from None
    if CLASSES.is_own(name):
        arguments = KERAS_ARGUMENTS
        if spec.get("learning_rate") is None:
            raise SettingError(
                f"{within}learning_rate",
                "missing; it is required for an optimizer of your own",
            )
    else:
        arguments = OPTIMIZERS[name].all_arguments()
        _known_keys(within, spec, ("name", *structural, *sorted(arguments)))
    for key, value in spec.items():
        if key in arguments:
            arguments[key].check_setting(f"{within}{key}", value)
    if name == "lion":
        try:
            resolve_kernel(spec.get("kernel", "auto"))
        except ValueError as error:
            raise SettingError(f"{within}kernel", str(error)) from error
        power = spec.get("frequency_power")
        _check_power(f"{within}frequency_power", power, spec)
    given = {k: spec[k] for k in LIMITS if spec.get(k) is not None}
    if len(given) > 1:
        raise refusal(
            f"{within}{list(given)[1]}",
            given,
            f"at most one of {', '.join(LIMITS)}",
        )


def _check_schedule(schedule: Any, name: str) -> None:
    _mapping("schedule", schedule)
    shape = schedule.get("name")
    choice(SCHEDULES).check_setting("schedule.name", shape)
    final = () if shape == "constant" else ("final",)
    _known_keys("schedule.", schedule, ("name", "warmup", *final))
    _WARMUP.check_setting("schedule.warmup", schedule.get("warmup", 0))
    if "final" in schedule:
        least = number(0, 1, above=shape == "exponential")
        least.check_setting("schedule.final", schedule["final"])
    if name in FIXED_RATE and shape != "constant":
        raise refusal(
            "schedule.name",
            shape,
            f"'constant' for {name!r}, whose weights shrink with the learning"
            " rate",
        )


def _check_pattern(field: str, pattern: Any) -> None:
    problem = "" if isinstance(pattern, str) else "not text"
    if not problem:
        try:
            re.compile(pattern)
        except re.error as error:
            problem = str(error)
    if problem:
        raise SettingError(
            field,
            f"received {pattern!r} ({problem}); accepted: a regular expression"
            " that matches whole variable paths, such as 'wide/.*'",
        )


def _mapping(field: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise refusal(field, value, "a mapping, such as {name: ...}")


def _known_keys(
    within: str, spec: Mapping[str, Any], accepted: Collection[str]
) -> None:
    for key in spec:
        if key not in accepted:
            near = difflib.get_close_matches(str(key).lower(), accepted, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise SettingError(
                f"{within}{key}",
                f"unknown key{hint}. Accepted: {', '.join(accepted)}",
            )
