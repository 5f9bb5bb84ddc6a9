"""The gate: which metrics a model is refused for, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.evaluators import metrics_validator
from tensorflow_model_analysis.metrics import metric_types

from components.evaluator.eval_config import eval_config
from components.evaluator.executor import refusals
from pipeline.config import Threshold

GOOD = {"auc": 0.7, "logloss": 0.4, "calibration": 1.0, "example_count": 9.0}
GOOD["mean_label"] = 0.3
AUC = {"auc": Threshold(min=0.5)}


def refused(
    folder: Path, thresholds: Any, where: Any = (), **values: float
) -> list[str]:
    """The gate's words for an evaluation with these values."""
    config = eval_config(thresholds, [["site"]], baseline=False)
    result = metrics_validator.validate_metrics(
        (
            where,
            {
                metric_types.MetricKey(name): value
                for name, value in {**GOOD, **values}.items()
            },
        ),
        config,
    )
    path = str(folder / tfma.VALIDATIONS_KEY)
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(result.SerializeToString())
    return refusals(str(folder))


@pytest.mark.parametrize(
    "thresholds",
    [AUC, {}, {"logloss": Threshold(min=0.1)}],
    ids=["auc", "none", "logloss"],
)
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_logloss_that_is_no_number_is_refused(
    tmp_path: Path, thresholds: Any, value: str
) -> None:
    assert refused(tmp_path, thresholds) == []
    assert refused(tmp_path, thresholds, logloss=float(value)) == [
        f"logloss is {value}; threshold: a finite number"
    ]


def test_only_bounds_of_the_config_are_told(tmp_path: Path) -> None:
    bounds = {"logloss": Threshold(max=0.3)}
    assert refused(tmp_path, bounds) == ["logloss is 0.4; threshold: max 0.3"]


def test_a_slice_may_have_no_logloss(tmp_path: Path) -> None:
    nan = float("nan")
    slice_ = (("site", "a"),)
    assert refused(tmp_path, AUC, slice_, auc=nan, logloss=nan) == []
