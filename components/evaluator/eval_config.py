"""The config's thresholds and slices as TFMA's EvalConfig.

TFMA's own executor evaluates by it where ours is not asked to. Ours knows more
metrics and judges by intervals: it takes the model specs and slices from here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import tensorflow_model_analysis as tfma

from models.config.training import LABEL, WEIGHT

_CLASSES = {
    "auc": "AUC",
    "pr_auc": "AUCPrecisionRecall",
    "logloss": "BinaryCrossEntropy",
    "calibration": "Calibration",
    "brier": "MeanSquaredError",
    "example_count": "ExampleCount",
    "mean_label": "MeanLabel",
}
# Not defined for rows of one label; TFMA gives 0 for them.
NEED_CLICKS = ("auc", "pr_auc", "calibration")
NEED_BOTH = ("auc", "pr_auc")
_LEAST = 1e-300  # of a share that is above 0


FINITE = 1e300  # beyond it there is no bound of the user's


class Bounds(Protocol):
    """Attributes of `pipeline.config.Threshold`."""

    @property
    def min(self) -> float | None: ...
    @property
    def max(self) -> float | None: ...
    @property
    def min_change(self) -> float | None: ...
    @property
    def max_change(self) -> float | None: ...


def eval_config(
    thresholds: Mapping[str, Bounds],
    slices: Sequence[Sequence[str]],
    baseline: bool,
    weighted: bool = False,
) -> tfma.EvalConfig:
    """EvalConfig of the `examples` signature; thresholds count overall.

    The overall logloss has to be finite, whatever the thresholds are, and a
    threshold of a metric that needs both labels refuses rows of one label.
    With `weighted` the metrics are those of weighted rows.
    """
    model = _MODEL | ({"example_weight_key": WEIGHT} if weighted else {})
    models = [tfma.ModelSpec(name="candidate", **model)]
    if baseline:
        models.append(
            tfma.ModelSpec(name="baseline", is_baseline=True, **model)
        )
    configs = []
    for name, class_name in _CLASSES.items():
        settings = {} if name == "example_count" else {"name": name}
        config = tfma.MetricConfig(
            class_name=class_name, config=json.dumps(settings)
        )
        bounds = thresholds.get(name)
        threshold = tfma.MetricThreshold()
        if bounds is not None:
            threshold = _threshold(bounds)
        if name == "example_count" and bounds is None:
            # TFMA blesses nothing without a threshold: one that always holds.
            threshold.value_threshold.lower_bound.value = 1
        if name == "logloss":
            _must_be_finite(threshold.value_threshold)
        if name == "mean_label":
            _must_have_labels(threshold.value_threshold, thresholds)
        if threshold.ByteSize():
            # A plain threshold would count for every slice, however small.
            config.per_slice_thresholds.add(
                slicing_specs=[tfma.SlicingSpec()], threshold=threshold
            )
        configs.append(config)
    return tfma.EvalConfig(
        model_specs=models,
        slicing_specs=[
            tfma.SlicingSpec(),
            *(tfma.SlicingSpec(feature_keys=list(keys)) for keys in slices),
        ],
        metrics_specs=[tfma.MetricsSpec(metrics=configs)],
    )


_MODEL = {
    "signature_name": "examples",
    "label_key": LABEL,
    "prediction_key": "ctr",
}


def _must_be_finite(bounds: tfma.GenericValueThreshold) -> None:
    """A model that gives NaN has a NaN here, which keeps no bound."""
    if not bounds.HasField("lower_bound"):
        bounds.lower_bound.value = -FINITE
    if not bounds.HasField("upper_bound"):
        bounds.upper_bound.value = FINITE


def _must_have_labels(
    bounds: tfma.GenericValueThreshold, thresholds: Collection[str]
) -> None:
    if any(name in thresholds for name in NEED_CLICKS):
        bounds.lower_bound.value = _LEAST
    if any(name in thresholds for name in NEED_BOTH):
        bounds.upper_bound.value = math.nextafter(1, 0)


def _threshold(bounds: Bounds) -> tfma.MetricThreshold:
    threshold = tfma.MetricThreshold()
    if bounds.min is not None:
        threshold.value_threshold.lower_bound.value = bounds.min
    if bounds.max is not None:
        threshold.value_threshold.upper_bound.value = bounds.max
    if bounds.min_change is not None:
        threshold.change_threshold.direction = (
            tfma.MetricDirection.HIGHER_IS_BETTER
        )
        threshold.change_threshold.absolute.value = bounds.min_change
    if bounds.max_change is not None:
        threshold.change_threshold.direction = (
            tfma.MetricDirection.LOWER_IS_BETTER
        )
        threshold.change_threshold.absolute.value = bounds.max_change
    return threshold
