"""Specs with every default filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optimizers.config.catalog import ARGUMENTS, AUTO, defaults

_FINAL = {"exponential": 0.01, "constant": None}


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
            **(defaults(spec["name"]) if spec["name"] in ARGUMENTS else {}),
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
