"""What a configuration may say about an optimizer, checked without Keras."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any

from optimizers.config.arguments import (
    BETA,
    FINITE,
    FLAG,
    FRACTION,
    KERAS_ARGUMENTS,
    LION_ARGUMENTS,
    NON_NEGATIVE,
    POSITIVE,
    Argument,
    check_frequency,
    choice,
    number,
)
from optimizers.extension import Registry
from optimizers.kernel import KERNELS, resolve_kernel

_ADAM = {
    "beta_1": BETA,
    "beta_2": BETA,
    "epsilon": NON_NEGATIVE,
    "amsgrad": FLAG,
}

OPTIMIZERS: dict[str, dict[str, Argument]] = {
    "adafactor": {
        "beta_2_decay": FINITE,
        "epsilon_1": NON_NEGATIVE,
        "epsilon_2": NON_NEGATIVE,
        "clip_threshold": POSITIVE,
        "relative_step": FLAG,
    },
    "adagrad": {
        "initial_accumulator_value": NON_NEGATIVE,
        "epsilon": NON_NEGATIVE,
    },
    "adam": _ADAM,
    "adamw": _ADAM,
    "ftrl": {
        "learning_rate_power": number(high=0),
        "initial_accumulator_value": NON_NEGATIVE,
        "l1_regularization_strength": NON_NEGATIVE,
        "l2_regularization_strength": NON_NEGATIVE,
        "l2_shrinkage_regularization_strength": NON_NEGATIVE,
        "beta": NON_NEGATIVE,
    },
    "lion": {**LION_ARGUMENTS, "kernel": choice(KERNELS)},
    "rmsprop": {
        "rho": FRACTION,
        "momentum": FRACTION,
        "epsilon": NON_NEGATIVE,
        "centered": FLAG,
    },
    "sgd": {"momentum": FRACTION, "nesterov": FLAG},
}
"""Per optimizer, the arguments beyond `KERAS_ARGUMENTS`."""

CLASSES = Registry(
    "optimizer",
    "optimizer.name",
    {
        "adafactor": "keras.optimizers:Adafactor",
        "adagrad": "keras.optimizers:Adagrad",
        "adam": "keras.optimizers:Adam",
        "adamw": "keras.optimizers:AdamW",
        "ftrl": "keras.optimizers:Ftrl",
        "lion": "optimizers.lion:Lion",
        "rmsprop": "keras.optimizers:RMSprop",
        "sgd": "keras.optimizers:SGD",
    },
    "a class of Keras 3 optimizers, which takes the arguments beside the name",
)

SCHEDULES = ("constant", "cosine", "exponential", "linear")

FIXED_RATE = ("ftrl",)
"""Optimizers whose weights are a function of the current learning rate.

Keras's FTRL recomputes w = -z / (sqrt(n) / rate + ...) at every step, so a
rate that falls to 0 takes the weights to 0 with it. A schedule of the whole
run leaves such a group alone.
"""


AUTO = "auto"
"""A setting that is chosen from the log before training."""

TABLE_ARGUMENTS = {
    "table_rate": POSITIVE,
    "table_beta_2": BETA,
    "table_frequency_power": FRACTION,
}
"""What embedding tables may have apart from the rest, in a spec of one."""

_OF_LION = ("table_beta_2", "table_frequency_power")


def names() -> tuple[str, ...]:
    """Returns the optimizers that a spec may name, sorted."""
    return tuple(sorted(OPTIMIZERS))


NOT_IN_KERAS_2 = ("loss_scale_factor", "gradient_accumulation_steps")
"""Of `KERAS_ARGUMENTS`, those that tf_keras's optimizers do not have."""


def validate(spec: Mapping[str, Any], keras: int = 3) -> None:
    """Checks a spec (see `build_optimizer`) as far as is possible unbuilt.

    Args:
        spec: see there.
        keras: 3, or 2 for a model of the package tf_keras.

    Raises:
        ValueError: names the field, what was received and what is accepted.
    """
    _mapping("optimizer", spec)
    if keras == 2:
        _check_keras_2(spec)
    if "groups" not in spec:
        _check_optimizer("optimizer", _without_tables(spec), ("schedule",))
        if spec.get("schedule") is not None:
            _check_schedule("optimizer.schedule", spec["schedule"])
            _check_rate_may_change("optimizer", spec)
        return
    accepted = ("groups", "loss_scale_factor", "schedule")
    _known_keys("optimizer", spec, accepted)
    KERAS_ARGUMENTS["loss_scale_factor"].check(
        "optimizer.loss_scale_factor", spec.get("loss_scale_factor")
    )
    if spec.get("schedule") is not None:
        _check_schedule("optimizer.schedule", spec["schedule"])
    _check_groups(spec["groups"])


def _without_tables(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec without rates to be chosen and arguments of tables, checked."""
    for key, argument in TABLE_ARGUMENTS.items():
        value = spec.get(key)
        if value is not None and value != AUTO:
            argument.check(f"optimizer.{key}", value)
    for key in _OF_LION:
        if key in spec and spec.get("name") not in (None, "lion"):
            raise ValueError(
                f"`optimizer.{key}` is an argument of lion. Received:"
                f" {spec[key]!r} with name {spec['name']!r}"
            )
    power = spec.get("table_frequency_power")
    if power != AUTO:
        check_frequency(
            "optimizer.table_frequency_power", power, spec.get("sparse", "lazy")
        )
    return {
        key: value
        for key, value in spec.items()
        if key not in TABLE_ARGUMENTS
        and not (key == "learning_rate" and value == AUTO)
    }


def _check_keras_2(spec: Mapping[str, Any]) -> None:
    groups = spec.get("groups", ())
    sections = [("optimizer", spec)]
    if isinstance(groups, (list, tuple)):
        sections += [
            (f"optimizer.groups[{i}]", group)
            for i, group in enumerate(groups)
            if isinstance(group, Mapping)
        ]
    for where, section in sections:
        if CLASSES.is_own(section.get("name")):
            raise ValueError(
                f"`{where}.name` must be one of {', '.join(names())} for a "
                f"Keras 2 model. Received: {section['name']!r}"
            )
        for key in NOT_IN_KERAS_2:
            if section.get(key) is not None:
                raise ValueError(
                    f"`{where}.{key}` must be left out for a Keras 2 model, "
                    "such as those of TensorFlow Recommenders: tf_keras's "
                    f"optimizers do not have it. Received: {section[key]!r}"
                )


def _check_groups(groups: Any) -> None:
    if not isinstance(groups, (list, tuple)) or not groups:
        raise ValueError(
            "`optimizer.groups` must be a list of at least one group, each "
            f"{{match: <regex>, name: <optimizer>, ...}}. Received: {groups!r}"
        )
    seen: dict[str, str] = {}
    for position, group in enumerate(groups):
        where = f"optimizer.groups[{position}]"
        _mapping(where, group)
        pattern = group.get("match")
        _check_pattern(f"{where}.match", pattern)
        if pattern in seen:
            raise ValueError(
                f"`{where}.match` must differ from that of {seen[pattern]}, "
                f"which takes every variable first. Received: {pattern!r}"
            )
        seen[pattern] = where
        if "loss_scale_factor" in group:
            raise ValueError(
                f"`{where}.loss_scale_factor` must be given once for all "
                "groups, as `optimizer.loss_scale_factor`. "
                f"Received: {group['loss_scale_factor']!r}"
            )
        _check_optimizer(where, group, ("match",))


def _check_optimizer(
    where: str, spec: Mapping[str, Any], structural: tuple[str, ...]
) -> None:
    if "name" not in spec:
        raise ValueError(
            f"`{where}` must have a `name`: one of {', '.join(names())}. "
            f"Received: {dict(spec)!r}"
        )
    name = spec["name"]
    own = CLASSES.is_own(name)
    if not own and (not isinstance(name, str) or name not in OPTIMIZERS):
        raise ValueError(
            f"`{where}.name` must be one of {', '.join(names())}, or "
            "package.module:Name of your own. "
            f"Received: {name!r}{_nearest(name, OPTIMIZERS)}"
        )
    arguments = {**KERAS_ARGUMENTS, **OPTIMIZERS.get(name, {})}
    if not own:
        _known_keys(where, spec, ("name", *structural, *sorted(arguments)))
    elif spec.get("learning_rate") is None:
        raise ValueError(
            f"`{where}.learning_rate` must be given for an optimizer of your "
            f"own. Received: {dict(spec)!r}"
        )
    for key, value in spec.items():
        if key in arguments:
            arguments[key].check(f"{where}.{key}", value)
    if name == "lion":
        resolve_kernel(spec.get("kernel", "auto"))
        check_frequency(
            f"{where}.frequency_power",
            spec.get("frequency_power"),
            spec.get("sparse", "lazy"),
        )
    limits = ("clipnorm", "clipvalue", "global_clipnorm")
    given = {k: spec[k] for k in limits if spec.get(k) is not None}
    if len(given) > 1:
        raise ValueError(
            f"`{where}` must have at most one of {', '.join(limits)}. "
            f"Received: {given!r}"
        )


def _check_schedule(where: str, schedule: Any) -> None:
    _mapping(where, schedule)
    choice(SCHEDULES).check(f"{where}.name", schedule.get("name"))
    name = schedule["name"]
    accepted = (
        ("name", "warmup")
        if name == "constant"
        else ("name", "warmup", "final")
    )
    _known_keys(where, schedule, accepted)
    warmup = Argument(
        "an integer >= 0 (steps) or a number in [0, 1) (share of the run)",
        lambda value: (
            NON_NEGATIVE.test(value)
            and (value < 1 or float(value).is_integer())
        ),
    )
    warmup.check(f"{where}.warmup", schedule.get("warmup", 0))
    least = number(0, 1, above=name == "exponential")
    if "final" in schedule:
        least.check(f"{where}.final", schedule["final"])


def _check_rate_may_change(where: str, spec: Mapping[str, Any]) -> None:
    if spec["name"] in FIXED_RATE and spec["schedule"]["name"] != "constant":
        raise ValueError(
            f"`{where}.schedule.name` must be 'constant' for "
            f"{spec['name']!r}, whose weights shrink with the learning rate. "
            f"Received: {spec['schedule']['name']!r}"
        )


def _check_pattern(where: str, pattern: Any) -> None:
    problem = "" if isinstance(pattern, str) else "not text"
    if not problem:
        try:
            re.compile(pattern)
        except re.error as error:
            problem = str(error)
    if problem:
        raise ValueError(
            f"`{where}` must be a regular expression that matches whole "
            f"variable paths, such as 'wide/.*'. Received: {pattern!r} "
            f"({problem})"
        )


def _mapping(where: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(
            f"`{where}` must be a mapping, such as {{name: ...}}. "
            f"Received: {value!r}"
        )


def _known_keys(
    where: str, spec: Mapping[str, Any], accepted: Collection[str]
) -> None:
    for key in spec:
        if key not in accepted:
            raise ValueError(
                f"`{where}.{key}` is not known. Accepted here: "
                f"{', '.join(accepted)}. "
                f"Received: {spec[key]!r}{_nearest(key, accepted)}"
            )


def _nearest(received: Any, accepted: Collection[str]) -> str:
    near = difflib.get_close_matches(str(received).lower(), accepted, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
