"""Weights of rows, from the log to the served model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from pipeline.commands.generate import generate
from tests.e2e.attempts import Attempts

CONFIG = """
name: tiny
data:
  impressions: {path: logs/impressions.parquet, format: parquet}
  label: click
  time: timestamp
  WEIGHT
  split: {by: time, eval: 0.1}
features:
  numeric: [price, user_clicks, {name: ad_age_hours, transform: buckets}]
  categorical: [ad_id, site_category, device, position, country]
train: {epochs: 2, batch_size: 512}
evaluate:
  metrics: {logloss: {max: 1}, calibration: {min: 0.1, max: 10}}
  slices: [[device]]
serving_gate: off
push: {to: models}
"""


def run(folder: Path, weight: str) -> dict[str, Any]:
    """The evaluation, the served predictions, and the sums of weights."""
    (folder / "tiny.yaml").write_text(CONFIG.replace("WEIGHT", weight))
    code, console = Attempts(folder).run()
    assert code == 0, console
    newest = max((folder / "runs/tiny/runs").iterdir(), key=lambda p: p.name)
    summary = json.loads((newest / "summary.json").read_text())
    found = folder / summary["artifacts"]["Evaluator"]["evaluation"]
    evaluation = json.loads((found / "evaluation.json").read_text())
    model = max((folder / "models/tiny").iterdir(), key=lambda p: p.name)
    rows = pd.read_parquet(folder / "logs/impressions.parquet").tail(4000)
    signature = tf.saved_model.load(str(model)).signatures["serving_default"]
    inputs = signature.structured_input_signature[1]
    assert "propensity" not in inputs and len(inputs) == 8
    columns = {
        name: tf.constant(rows[name].fillna("").tolist())
        if spec.dtype == tf.string
        else tf.constant(rows[name].astype(float).tolist(), spec.dtype)
        for name, spec in inputs.items()
    }
    served = signature(**columns)["ctr"].numpy()
    page = (newest / "report.html").read_text()
    weighted = "weight:" in weight
    assert ("are weighted" in page) == weighted
    assert ("weighted: the rows" in console) == weighted
    return {**evaluation, "served": served, "sums": summary["weights"]}


@pytest.mark.slow
def test_inverse_propensity_gives_the_rate_of_the_uniform_population(
    tmp_path: Path,
) -> None:
    generate(40_000, tmp_path / "logs", 5, "parquet", policy_bias=1.0)
    truth = pd.read_parquet(tmp_path / "logs/truth.parquet").tail(4000)
    found = {
        name: run(tmp_path, weight)
        for name, weight in (
            ("logged", ""),
            ("uniform", "weight: {propensity: propensity, clip: 100}"),
        )
    }
    rate = truth["uniform"].mean()
    ratio = {name: one["served"].mean() / rate for name, one in found.items()}
    print(ratio)
    assert ratio["logged"] > 1.2
    assert ratio["uniform"] == pytest.approx(1, abs=0.08)
    weighted = found["uniform"]
    assert weighted["base_rate"] == pytest.approx(rate, rel=0.08)
    assert found["logged"]["weights"] is None and not found["logged"]["sums"]
    sums = weighted["sums"]["eval"]
    assert weighted["weights"] == pytest.approx(sums)
    # 1 / propensity is the number of banners, in the mean.
    assert sums["rows"] / weighted["rows"] == pytest.approx(8, rel=0.05)
    for one in weighted["slices"]:
        assert one["weights"]["rows"] > one["rows"]


@pytest.mark.slow
def test_weights_of_one_give_the_bits_of_no_weights(tmp_path: Path) -> None:
    generate(8000, tmp_path / "logs", 5, "parquet")
    path = tmp_path / "logs/impressions.parquet"
    pd.read_parquet(path).assign(one=1.0).to_parquet(path)
    negatives = "negatives: {keep: 0.5}"
    plain = run(tmp_path, negatives)
    ones = run(tmp_path, f"weight: one\n  {negatives}")
    assert np.array_equal(plain["served"], ones["served"])
    assert plain["metrics"] == ones["metrics"]
    assert plain["curves"] == ones["curves"]
