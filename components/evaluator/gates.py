"""Gates beside the thresholds: functions that a config names."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from components.evaluator.config import GATES, Gate
from models.errors import InputError


def reasons(gate: Gate, report: Mapping[str, Any]) -> list[str]:
    """Reasons of one gate to refuse the model, a line each; [] for none.

    Args:
        gate: the config's.
        report: see `evaluation`; the gate gets a copy.

    Raises:
        InputError: the gate cannot be had, raises, or returns no list of lines.
    """
    field, name = GATES.field, gate.name
    try:
        function = GATES.load(name)
        found = function(copy.deepcopy(dict(report)), **gate.options)
    except ValueError as error:
        if str(error).startswith(field):
            raise InputError(str(error)) from error
        raise InputError(f"{field}: {name!r} raised {error!r}") from error
    except Exception as error:  # the user's code may raise anything
        raise InputError(f"{field}: {name!r} raised {error!r}") from error
    if not isinstance(found, list | tuple) or not all(
        isinstance(line, str) for line in found
    ):
        raise InputError(
            f"{field}: {name!r} must return a list of lines, the reasons to"
            f" refuse; [] for none. Received: {found!r}"
        )
    return list(found)


def check(gate: Gate, report: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict of a gate, in the form of the checks of `gate.judge`."""
    lines = reasons(gate, report)
    return {
        "metric": gate.name,
        "bound": "gate",
        "limit": None,
        "value": None,
        "interval": None,
        "passed": not lines,
        "words": f"{gate.name}: {'; '.join(lines) or 'no reason to refuse'}",
    }
