"""Evaluator's work: TFMA, and in words why a model was refused."""

from __future__ import annotations

import logging
import math
from typing import Any

import tensorflow_model_analysis as tfma
from tfx import types
from tfx.components.evaluator import executor as tfx_evaluator
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import path_utils

log = logging.getLogger("lionctr.evaluate")


class Executor(tfx_evaluator.Executor):
    """Leaves an empty baseline out, and logs every broken threshold."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component."""
        baseline = input_dict.get("baseline_model")
        if baseline and not fileio.isdir(
            path_utils.serving_model_path(
                artifact_utils.get_single_uri(baseline)
            )
        ):
            input_dict = {
                key: value
                for key, value in input_dict.items()
                if key != "baseline_model"
            }
        super().Do(input_dict, output_dict, exec_properties)
        for line in refusals(
            artifact_utils.get_single_uri(output_dict["evaluation"])
        ):
            log.warning("refused: %s", line)


def refusals(evaluation: str) -> list[str]:
    """One line for each broken threshold: metric, threshold, value."""
    result = tfma.load_validation_result(evaluation)
    if result.validation_ok:
        return []
    lines = []
    for item in result.metric_validations_per_slice:
        where = _slice_name(item.slice_key)
        for failure in item.failures:
            lines.append(
                f"{failure.metric_key.name}{where} is"
                f" {_number(failure.metric_value)};"
                f" {_bound(failure.metric_threshold)}"
                + (
                    f" (now {'change ' if failure.metric_key.is_diff else ''}"
                    f"{_number(failure.metric_value)})"
                    if failure.metric_key.is_diff
                    else ""
                )
            )
    return lines or ["the evaluation gave no result for a threshold's slice"]


def metrics(evaluation: str) -> dict[str, dict[str, float]]:
    """Slice ("" is overall) -> metric -> value, of the candidate model."""
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


def _number(value: Any) -> str:
    return f"{value.double_value.value:.6g}"


def _bound(threshold: Any) -> str:
    """A TFMA threshold as a sentence."""
    if threshold.HasField("change_threshold"):
        change = threshold.change_threshold
        higher = change.direction == tfma.MetricDirection.HIGHER_IS_BETTER
        word = "fall below" if higher else "rise above"
        return (
            "its change against the baseline must not"
            f" {word} {change.absolute.value:g}"
        )
    low = threshold.value_threshold.lower_bound.value
    high = threshold.value_threshold.upper_bound.value
    bounds = []
    if threshold.value_threshold.HasField("lower_bound") and math.isfinite(low):
        bounds.append(f"at least {low:g}")
    if threshold.value_threshold.HasField("upper_bound") and math.isfinite(
        high
    ):
        bounds.append(f"at most {high:g}")
    return f"the threshold is {' and '.join(bounds)}"
