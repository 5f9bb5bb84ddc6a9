"""Every argument of an optimizer, with its default where a spec has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optimizers.config.catalog import AUTO

# As in the classes' signatures, which a test compares: importing Keras to
# check a config would take seconds.
_COMMON = {
    "learning_rate": 0.001,
    "weight_decay": None,
    "clipnorm": None,
    "clipvalue": None,
    "global_clipnorm": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
}
_ADAM = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "amsgrad": False}
_OWN: dict[str, dict[str, Any]] = {
    "adafactor": {
        "beta_2_decay": -0.8,
        "epsilon_1": 1e-30,
        "epsilon_2": 1e-3,
        "clip_threshold": 1.0,
        "relative_step": True,
    },
    "adagrad": {"initial_accumulator_value": 0.1, "epsilon": 1e-7},
    "adam": _ADAM,
    "adamw": {**_ADAM, "weight_decay": 0.004},
    "ftrl": {
        "learning_rate_power": -0.5,
        "initial_accumulator_value": 0.1,
        "l1_regularization_strength": 0.0,
        "l2_regularization_strength": 0.0,
        "l2_shrinkage_regularization_strength": 0.0,
        "beta": 0.0,
    },
    "lion": {
        "learning_rate": 1e-4,
        "beta_1": 0.9,
        "beta_2": 0.99,
        "weight_decay": 0.0,
        "sparse": "lazy",
        "kernel": "auto",
        "momentum_dtype": None,
        "cautious": False,
        "stochastic_rounding": False,
        "frequency_power": 0.0,
    },
    "rmsprop": {
        "rho": 0.9,
        "momentum": 0.0,
        "epsilon": 1e-7,
        "centered": False,
    },
    "sgd": {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False},
}
_FINAL = {"exponential": 0.01, "constant": None}


def defaults(name: str) -> dict[str, Any]:
    """Argument -> default, of the optimizer that the config calls `name`."""
    return {**_COMMON, **_OWN[name]}


def asked(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A valid spec in which rates that nobody gave are to be chosen."""
    if "groups" in spec or "learning_rate" in spec:
        return dict(spec)
    return {**spec, "learning_rate": AUTO}


def resolved(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A valid spec (see `build_optimizer`) with every default filled in."""
    full = _filled(asked(spec))
    if full.get("learning_rate") == AUTO:
        full.setdefault("table_rate", AUTO)
    return full


def _filled(spec: Mapping[str, Any]) -> dict[str, Any]:
    schedule = spec.get("schedule")
    if schedule is not None:
        final = _FINAL.get(schedule["name"], 0.0)
        schedule = {
            "name": schedule["name"],
            "warmup": 0,
            **({} if final is None else {"final": final}),
            **schedule,
        }
    if "groups" not in spec:
        return {
            "name": spec["name"],
            # The user's own have theirs in their signatures.
            **(defaults(spec["name"]) if spec["name"] in _OWN else {}),
            **spec,
            "schedule": schedule,
        }
    groups = []
    for group in spec["groups"]:
        full = {"match": group["match"], **_filled(group), **group}
        # Both are of the whole: a group may not have its own.
        del full["schedule"]
        full.pop("loss_scale_factor", None)
        groups.append(full)
    return {
        "groups": groups,
        "loss_scale_factor": spec.get("loss_scale_factor"),
        "schedule": schedule,
    }
