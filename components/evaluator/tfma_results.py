"""Results of TFMA's own executor: metrics, and refusals in words."""

from __future__ import annotations

import math
from typing import Any

import tensorflow_model_analysis as tfma

from components.evaluator.eval_config import FINITE, NEED_BOTH, NEED_CLICKS

MEAN_LABEL = "mean_label"


def refusals(evaluation: str) -> list[str]:
    """One line for each broken threshold: metric, threshold, value."""
    result = tfma.load_validation_result(evaluation)
    if result.validation_ok:
        return []
    lines = []
    for item in result.metric_validations_per_slice:
        where = _slice_name(item.slice_key)
        undefined: tuple[str, ...] = ()
        for failure in item.failures:
            if failure.metric_key.name == MEAN_LABEL:
                label = int(failure.metric_value.double_value.value)
                undefined = _undefined(label)
                lines.append(
                    f"{' and '.join(undefined)} are not defined{where}:"
                    f" every evaluated row has the label {label}; a threshold"
                    " of theirs needs rows of both labels"
                )
        lines += [
            _sentence(failure, where)
            for failure in item.failures
            if failure.metric_key.name not in (MEAN_LABEL, *undefined)
        ]
    return lines or ["the evaluation gave no result for a threshold's slice"]


def metrics(evaluation: str) -> dict[str, dict[str, float | None]]:
    """Slice ("" is overall) -> metric -> value, of the candidate model.

    None stands for a metric that is not defined: see `undefined`.
    """
    found: dict[str, dict[str, float | None]] = {}
    for where, values in _metrics(evaluation).items():
        nothing = _undefined(values.pop(MEAN_LABEL, None))
        found[where] = {
            name: value
            if math.isfinite(value) and name not in nothing
            else None
            for name, value in values.items()
        }
    return found


def undefined(evaluation: str) -> dict[str, str]:
    """Slice -> why some of its metrics have no value."""
    found = {}
    for where, values in _metrics(evaluation).items():
        label = values.get(MEAN_LABEL)
        if names := _undefined(label):
            found[where] = (
                f"{', '.join(names)}: all {values['example_count']:,.0f} rows"
                f" have the label {label:.0f}"
            )
    return found


def _undefined(mean_label: float | None) -> tuple[str, ...]:
    """Metrics that rows with this share of clicks do not have."""
    if mean_label == 0:
        return NEED_CLICKS
    return NEED_BOTH if mean_label == 1 else ()


def _metrics(evaluation: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for record in tfma.load_metrics(evaluation):
        values = found.setdefault(_slice_name(record.slice_key).strip(), {})
        for item in record.metric_keys_and_values:
            if item.key.is_diff or item.key.model_name == "baseline":
                continue
            values[item.key.name] = item.value.double_value.value
    return found


def _slice_name(key: Any) -> str:
    parts = []
    for single in key.single_slice_keys:
        kind = single.WhichOneof("kind")
        value = getattr(single, kind)
        if isinstance(value, bytes):
            value = value.decode(errors="backslashreplace")
        parts.append(f"{single.column}={value}")
    return f" [{', '.join(parts)}]" if parts else ""


def _sentence(failure: Any, where: str) -> str:
    """One broken threshold: metric, value, bound."""
    name = f"{failure.metric_key.name}{where}"
    number = failure.metric_value.double_value.value
    value = f"{number:.6g}"
    if failure.metric_threshold.HasField("change_threshold"):
        change = failure.metric_threshold.change_threshold
        higher = change.direction == tfma.MetricDirection.HIGHER_IS_BETTER
        side = "min_change" if higher else "max_change"
        return (
            f"{name} changed by {value} against the baseline;"
            f" threshold: {side} {change.absolute.value:g}"
        )
    if not math.isfinite(number):
        return f"{name} is {value}; threshold: a finite number"
    bounds = failure.metric_threshold.value_threshold
    accepted = [
        f"{side} {bound.value:g}"
        for side, bound in (
            ("min", bounds.lower_bound),
            ("max", bounds.upper_bound),
        )
        if bounds.HasField("lower_bound" if side == "min" else "upper_bound")
        and abs(bound.value) < FINITE
    ]
    return f"{name} is {value}; threshold: {', '.join(accepted)}"
