"""The parts of an evaluation that are of one output each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def each_output(
    evaluation: Mapping[str, Any],
) -> list[tuple[str, Mapping[str, Any]]]:
    """Evaluations of all outputs; those after the first begin with a name.

    Args:
        evaluation: of `components.evaluator.evaluation`.

    Returns:
        "" and the evaluation itself; of other outputs `cvr.` and their part.
    """
    outputs = evaluation.get("outputs") or {}
    return [
        ("", evaluation),
        *((f"{name}.", part) for name, part in outputs.items()),
    ]
