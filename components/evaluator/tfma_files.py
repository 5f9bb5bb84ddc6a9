"""An evaluation as the files that TFMA's own executor leaves."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_model_analysis as tfma
from google.protobuf import json_format
from tensorflow_model_analysis.proto import (
    config_pb2,
    metrics_for_slice_pb2,
    validation_result_pb2,
)

from models.config.metric_registry import COUNTS

_SHARD = "-00000-of-00001"


def write(
    report: Mapping[str, Any],
    config: tfma.EvalConfig,
    models: Mapping[str, str],
    data: str,
    folder: str,
) -> None:
    """Writes metrics, validations, plots and eval_config.json to `folder`.

    Args:
        report: see `evaluation`, with the gate.
        config: with the model specs that were evaluated.
        models: name -> folder of the SavedModel.
        data: where the examples are.
        folder: the evaluation artifact.
    """
    paired = len(report["models"]) > 1
    records = [_metrics((), report, paired)] + [
        _metrics(tuple(item["key"].items()), item, paired)
        for item in report["slices"]
    ]
    _write(folder, tfma.METRICS_KEY + _SHARD, records)
    _write(folder, tfma.PLOTS_KEY + _SHARD, [])
    _write(folder, tfma.ATTRIBUTIONS_KEY + _SHARD, [])
    _write(folder, tfma.VALIDATIONS_KEY, [_validation(report, paired)])
    run = config_pb2.EvalRun(
        eval_config=config,
        version=tfma.__version__,
        data_location=data,
        file_format="tfrecords",
        model_locations=dict(models) if paired else {"": models["candidate"]},
    )
    path = os.path.join(folder, "eval_config.json")
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(json_format.MessageToJson(run) + "\n")


def _write(folder: str, name: str, records: Sequence[Any]) -> None:
    path = os.path.join(folder, f"{name}.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for record in records:
            writer.write(record.SerializeToString())


def _metrics(
    key: Sequence[tuple[str, Any]],
    item: Mapping[str, Any],
    paired: bool,
) -> metrics_for_slice_pb2.MetricsForSlice:
    """The metrics of a slice, without intervals.

    TFMA's readers give a metric another shape where it has one.
    """
    record = metrics_for_slice_pb2.MetricsForSlice()
    record.slice_key.CopyFrom(_slice_key(key))
    rows = item["rows"]
    rate = item["positives"] / rows if rows else None
    weights = item.get("weights")
    if weights is not None and rows:
        rate = weights["positives"] / weights["rows"]
    same = {"value": rate, "baseline": rate, "difference": 0.0}
    for name, entry in (item["metrics"] | {"mean_label": same}).items():
        values = [("candidate" if paired else "", entry["value"], False)]
        if paired:
            values.append(("baseline", entry["baseline"], False))
            values.append(("candidate", entry["difference"], True))
        weighted = weights is not None and name not in COUNTS
        for model, value, is_diff in values:
            _add(record, name, model, value, is_diff, weighted)
    return record


def _slice_key(
    key: Sequence[tuple[str, Any]],
) -> metrics_for_slice_pb2.SliceKey:
    """Text, int or float, as TFMA's `serialize_slice_key` tells them apart."""
    proto = metrics_for_slice_pb2.SliceKey()
    for column, value in key:
        single = proto.single_slice_keys.add(column=column)
        if isinstance(value, str):
            single.bytes_value = value.encode()
        elif isinstance(value, int):
            single.int64_value = value
        else:
            single.float_value = value
    return proto


def _add(
    record: metrics_for_slice_pb2.MetricsForSlice,
    name: str,
    model: str,
    value: float | None,
    is_diff: bool,
    weighted: bool,
) -> None:
    """Adds a metric, as TFMA does; NaN where it is undefined."""
    item = record.metric_keys_and_values.add()
    item.key.name, item.key.model_name = name, model
    item.key.is_diff = is_diff
    item.key.example_weighted.value = weighted
    item.value.double_value.value = math.nan if value is None else value


def _validation(
    report: Mapping[str, Any], paired: bool
) -> validation_result_pb2.ValidationResult:
    """The gate's verdict; each broken bound is a failure, in words too."""
    gate = report["gate"]
    result = validation_result_pb2.ValidationResult(
        validation_ok=gate["passed"], rubber_stamp=not paired
    )
    details = result.validation_details.slicing_details.add()
    details.slicing_spec.CopyFrom(config_pb2.SlicingSpec())
    details.num_matching_slices = 1
    if gate["passed"]:
        return result
    failed = result.metric_validations_per_slice.add()
    failed.slice_key.CopyFrom(metrics_for_slice_pb2.SliceKey())
    for check in gate["checks"]:
        if check["passed"]:
            continue
        failure = failed.failures.add(message=check["words"])
        failure.metric_key.name = check["metric"]
        if paired:
            failure.metric_key.model_name = "candidate"
        change = check["bound"].endswith("_change")
        failure.metric_key.is_diff = change
        value = check["value"]
        failure.metric_value.double_value.value = (
            math.nan if value is None else value
        )
        _bound(failure.metric_threshold, check["bound"], check["limit"])
    return result


def _bound(
    threshold: config_pb2.MetricThreshold, bound: str, limit: float | None
) -> None:
    if limit is None:
        return
    values, changes = threshold.value_threshold, threshold.change_threshold
    if bound == "min":
        values.lower_bound.value = limit
    elif bound in ("max", "below"):
        values.upper_bound.value = limit
    else:
        changes.absolute.value = limit
        changes.direction = (
            config_pb2.MetricDirection.HIGHER_IS_BETTER
            if bound == "min_change"
            else config_pb2.MetricDirection.LOWER_IS_BETTER
        )
