"""Evaluation of the outputs of a model of several labels, one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from components.arrow_masks import Mask
from components.evaluator import gate
from components.evaluator.config import EvaluateConfig
from components.evaluator.evaluation import evaluate
from components.evaluator.predictions import Columns, Values
from models.config.labels import Label, Output, outputs


def evaluate_outputs(
    columns: Columns,
    labels: Sequence[Label],
    config: EvaluateConfig,
    split: str,
) -> dict[str, dict[str, Any]]:
    """Output after the first -> its evaluation, with a gate of its own.

    Each is judged on the rows where its label counts: the probability of a
    purchase after a click on clicked rows, that of both on all rows. Rows of
    which the label is not known are left out.

    Args:
        columns: of all rows, see `predictions`.
        labels: of the model, in order.
        config: the config section.
        split: name of the rows.
    """
    found = {}
    for output in outputs(labels)[1:]:
        settings = config.of_output(output.name)
        report = evaluate(rows_of(columns, output, labels), settings, split)
        report["label"] = labels[output.label].name
        report["gate"] = gate.judge(report, settings)
        found[output.name] = report
    return found


def with_outputs(
    verdict: Mapping[str, Any], reports: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The verdict on all outputs, each named where it is not the first."""
    found = {
        "passed": verdict["passed"],
        **{key: list(verdict[key]) for key in ("refusals", "notes", "checks")},
    }
    for name, report in reports.items():
        one = report["gate"]
        found["passed"] &= one["passed"]
        for key in ("refusals", "notes"):
            found[key] += [f"{name}: {line}" for line in one[key]]
        found["checks"] += [
            {
                **check,
                "metric": f"{name}.{check['metric']}",
                "words": f"{name}: {check['words']}",
            }
            for check in one["checks"]
        ]
    return found


def rows_of(
    columns: Columns, output: Output, labels: Sequence[Label]
) -> Columns:
    """The rows where an output counts, with its labels and predictions."""
    positive, counts = labels_and_rows(
        columns.labels, columns.further, output, labels
    )
    served = columns.served_outputs.get(output.name)
    whole = dataclasses.replace(
        columns,
        labels=positive,
        predictions=columns.outputs[output.name],
        served=served,
        uncalibrated=columns.uncalibrated_outputs.get(output.name),
        further={},
        outputs={},
        served_outputs={},
        uncalibrated_outputs={},
    )
    return whole if counts.all() else taken(whole, np.flatnonzero(counts))


def labels_and_rows(
    first: Mask,
    further: Mapping[str, npt.NDArray[Any]],
    output: Output,
    labels: Sequence[Label],
) -> tuple[Mask, Mask]:
    """The labels of an output, and which rows count for it; bool [N] each.

    Args:
        first: the first label; bool [N].
        further: label after the first -> 0, 1, or UNKNOWN; [N].
        output: of the model.
        labels: of the model, in order.
    """
    if not output.label:
        return first, np.ones(len(first), np.bool_)
    own = further[labels[output.label].name]
    counts, positive = own >= 0, own > 0
    if output.of:
        counts = counts & first
    if output.joint:
        positive = positive & first
    return positive, counts


def taken(columns: Columns, rows: npt.NDArray[np.int64]) -> Columns:
    """Some of the rows, in their order."""

    def some(values: Any) -> Any:
        return None if values is None else values[rows]

    place = np.full(len(columns.labels), -1, np.int64)
    place[rows] = np.arange(len(rows))
    slices = {}
    for name, values in columns.slices.items():
        at = place[values.rows]
        there = at >= 0
        slices[name] = Values(at[there], values.codes[there], values.values)
    return dataclasses.replace(
        columns,
        labels=columns.labels[rows],
        predictions=tuple(map(some, columns.predictions)),
        groups=some(columns.groups),
        slices=slices,
        served=some(columns.served),
        uncalibrated=some(columns.uncalibrated),
        hours=some(columns.hours),
        weights=some(columns.weights),
    )
