"""Evaluator's work: TFMA, and in words why a model was refused."""

from __future__ import annotations

import json
import logging
import math
import os
from typing import Any

import tensorflow_model_analysis as tfma
from tfx import types
from tfx.components.evaluator import executor as tfx_evaluator
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import path_utils

from components.evaluator.eval_config import FINITE

log = logging.getLogger("lionctr.evaluate")
METRICS = "metrics.json"  # of the candidate: slice -> metric -> value or null


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
        evaluation = artifact_utils.get_single_uri(output_dict["evaluation"])
        with fileio.open(os.path.join(evaluation, METRICS), "w") as file:
            file.write(json.dumps(_finite(metrics(evaluation)), indent=1))
        for line in refusals(evaluation):
            log.warning("refused: %s", line)


def refusals(evaluation: str) -> list[str]:
    """One line for each broken threshold: metric, threshold, value."""
    result = tfma.load_validation_result(evaluation)
    if result.validation_ok:
        return []
    lines = [
        _sentence(failure, _slice_name(item.slice_key))
        for item in result.metric_validations_per_slice
        for failure in item.failures
    ]
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


def _finite(
    found: dict[str, dict[str, float]],
) -> dict[str, dict[str, float | None]]:
    """The same without NaN and infinity, which JSON does not have."""
    return {
        place: {k: v if math.isfinite(v) else None for k, v in values.items()}
        for place, values in found.items()
    }


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
