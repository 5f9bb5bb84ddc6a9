"""The gate: which metrics a model is refused for, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.evaluators import metrics_validator
from tensorflow_model_analysis.metrics import metric_types

from components.evaluator.eval_config import eval_config
from components.evaluator.executor import metrics, refusals, undefined
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


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize(
    "bounds",
    [
        {"auc": Threshold(min=0.5)},
        {"auc": Threshold(max=0.9)},
        {"pr_auc": Threshold(max_change=0.0)},
    ],
    ids=["auc", "auc_max", "pr_auc"],
)
def test_a_gate_on_auc_refuses_rows_of_one_label(
    tmp_path: Path, bounds: Any, label: int
) -> None:
    (line,) = refused(tmp_path, bounds, auc=0.0, pr_auc=0.0, mean_label=label)
    assert "auc and pr_auc" in line
    assert f"every evaluated row has the label {label}" in line


def test_rows_of_one_label_pass_a_gate_that_needs_none(tmp_path: Path) -> None:
    for bounds in ({}, {"logloss": Threshold(max=1.0)}):
        assert refused(tmp_path, bounds, auc=0.0, mean_label=0.0) == []
    one = {"calibration": Threshold(min=0.1)}
    assert refused(tmp_path, one, auc=0.0, mean_label=1.0) == []


def test_metrics_of_one_label_are_none_and_the_words_say_why(
    tmp_path: Path,
) -> None:
    rows = pd.DataFrame(
        {
            "label": [1.0, 0.0, 0.0, 0.0, 1.0],
            "ctr": [0.9, 0.2, 0.3, 0.1, 0.8],
            "site": ["a", "a", "b", "b", "c"],
        }
    )
    config = eval_config({}, [["site"]], baseline=False)
    config.model_specs[0].signature_name = ""
    tfma.analyze_raw_data(rows, config, output_path=str(tmp_path))
    found = metrics(str(tmp_path))
    assert found[""]["auc"] == pytest.approx(1.0, abs=1e-3)
    assert "mean_label" not in found[""]
    one = {name: found["[site=b]"][name] for name in ("auc", "pr_auc")}
    assert one == {"auc": None, "pr_auc": None}
    assert found["[site=b]"]["calibration"] is None
    assert found["[site=c]"]["auc"] is None
    assert found["[site=c]"]["calibration"] == pytest.approx(0.8)
    assert undefined(str(tmp_path)) == {
        "[site=b]": "auc, pr_auc, calibration: all 2 rows have the label 0",
        "[site=c]": "auc, pr_auc: all 1 rows have the label 1",
    }
