"""Metrics, intervals and the gate of rows with weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics as sklearn

from components.evaluator import gate
from components.evaluator.config import EvaluateConfig
from components.evaluator.evaluation import evaluate
from components.evaluator.predictions import Columns, Values, predictions
from components.evaluator.raw_columns import sample
from models.config.training import Features
from tests.examples import example

ROWS = 4000
RNG = np.random.default_rng(2)
TRUE = RNG.uniform(0.02, 0.5, ROWS)
WEIGHTS = RNG.integers(1, 6, ROWS).astype(np.float32)
COLUMNS = Columns(
    RNG.random(ROWS) < TRUE,
    (TRUE.astype(np.float32), np.full(ROWS, 0.3, np.float32)),
    None,
    {"tv": Values(np.arange(ROWS), RNG.integers(0, 2, ROWS, np.int32), [0, 1])},
    weights=WEIGHTS,
)


def report(columns: Columns, **settings: Any) -> dict[str, Any]:
    config = EvaluateConfig.model_validate(
        {"slices": [["tv"]], "replicates": 400, **settings}
    )
    found = evaluate(columns, config, "eval")
    return found | {"gate": gate.judge(found, config)}


def value(found: dict[str, Any], name: str, key: str = "value") -> float:
    return float(found["metrics"][name][key])


def test_metrics_are_those_of_scikit_learn() -> None:
    found = report(COLUMNS)
    y, p = COLUMNS.labels, COLUMNS.predictions[0].astype(float)
    loss = sklearn.log_loss(y, p, sample_weight=WEIGHTS)
    rate = np.average(y, weights=WEIGHTS)
    constant = sklearn.log_loss(y, np.full(ROWS, rate), sample_weight=WEIGHTS)
    expected = {
        "logloss": loss,
        "auc": sklearn.roc_auc_score(y, p, sample_weight=WEIGHTS),
        "calibration": np.average(p, weights=WEIGHTS) / rate,
        "normalized_entropy": loss / constant,
    }
    for name, wanted in expected.items():
        assert value(found, name) == pytest.approx(wanted, rel=1e-6), name
    assert found["base_rate"] == pytest.approx(rate)
    assert found["constant"]["logloss"] == pytest.approx(constant)
    assert found["weights"] == {
        "rows": WEIGHTS.sum(),
        "positives": WEIGHTS @ y,
    }
    assert found["rows"] == ROWS and found["positives"] == y.sum()
    some = WEIGHTS[np.asarray(COLUMNS.slices["tv"].codes) == 1]
    by_name = {one["name"]: one for one in found["slices"]}
    assert by_name["tv=1"]["weights"]["rows"] == some.sum()


def test_weights_of_one_change_nothing() -> None:
    ones = dataclasses.replace(COLUMNS, weights=np.ones(ROWS, np.float32))
    plain = report(dataclasses.replace(COLUMNS, weights=None))
    found = report(ones)
    assert plain["weights"] is None
    for one in (found, *found["slices"]):
        assert one["weights"].pop("rows") > 0
        one["weights"] = None
    assert found == plain


def test_intervals_hold_the_weighted_metric_of_the_population() -> None:
    rng = np.random.default_rng(7)
    inside = 0
    for _ in range(25):
        p = rng.uniform(0.05, 0.4, 1500)
        weights = rng.exponential(1, 1500) + 0.01
        labels = rng.random(1500) < np.where(weights > 1, 1.2, 0.8) * p
        columns = Columns(
            labels, (p.astype(np.float32),), None, {}, weights=weights
        )
        found = report(columns, slices=[], replicates=200)
        entry = found["metrics"]["calibration"]
        rate = 0.01 + 1.0  # mean weight
        heavy = np.exp(-0.99) * (0.99 + 1 + 0.01)  # E[w; w > 1]
        true = rate / (1.2 * heavy + 0.8 * (rate - heavy))
        low, high = entry["interval"]
        inside += low <= true <= high
    assert inside >= 21


def test_gate_judges_by_the_weighted_metric() -> None:
    # Right for the rows that count, wrong for those that hardly do.
    heavy = np.arange(ROWS) % 2 == 0
    p = np.where(heavy, TRUE, 0.9).astype(np.float32)
    weights = np.where(heavy, 1.0, 0.001).astype(np.float32)
    columns = Columns(COLUMNS.labels, (p,), None, {}, weights=weights)
    settings: dict[str, Any] = {"slices": []}
    assert report(columns, **settings)["gate"]["passed"]
    unweighted = dataclasses.replace(columns, weights=None)
    assert not report(unweighted, **settings)["gate"]["passed"]


def test_weights_are_read_from_the_examples(tmp_path: Path) -> None:
    path = str(tmp_path / "rows")
    with tf.io.TFRecordWriter(path) as writer:
        for row in range(50):
            writer.write(
                example(label=row % 2, x=1.0, example_weight=row + 0.5)
            )
    wanted = np.arange(50) + 0.5
    columns = predictions([path], {}, {}, weighted=True)
    assert columns.weights is not None
    assert np.array_equal(columns.weights, wanted)
    features = Features.model_validate({"numeric": ["x"]})
    drawn = sample([path], features, 50, 50, None, 1, weighted=True)
    assert drawn.weights is not None
    assert np.array_equal(drawn.weights, wanted)
