"""Calibration, from the eval rows to the served model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from pipeline.commands.generate import generate
from tests.e2e.attempts import Attempts, lionctr

CONFIG = """
name: tiny
data:
  impressions: {path: logs/impressions.parquet, format: parquet}
  label: click
  time: timestamp
  negatives: {keep: 0.5}
  split: {by: time, eval: 0.2, test: 0.2}
features:
  numeric: [price, user_clicks, {name: ad_age_hours, transform: buckets}]
  categorical: [ad_id, site_category, device, {name: position, serve: top}]
train: {epochs: 2, batch_size: 256}
evaluate:
  calibrate: platt
  metrics: {logloss: {max: 1}, calibration: null, normalized_entropy: null}
push: {to: models}
"""


def run(folder: Path, *overrides: str) -> tuple[dict[str, Any], str]:
    """Summary and console."""
    code, console = Attempts(folder).run(*overrides)
    assert code == 0, console
    newest = max((folder / "runs/tiny/runs").iterdir(), key=lambda p: p.name)
    page = (newest / "report.html").read_text()
    assert ("uncalibrated" in page) == ("isotonic" not in "".join(overrides))
    return json.loads((newest / "summary.json").read_text()), console


@pytest.mark.slow
def test_a_shifted_base_rate_is_corrected_wherever_the_model_is_asked(
    tmp_path: Path,
) -> None:
    generate(40_000, tmp_path / "logs", 5, "parquet")
    path = tmp_path / "logs/impressions.parquet"
    log = pd.read_parquet(path)
    # The days that train have a third of their negatives.
    gone = np.random.default_rng(1).random(len(log)) < 2 / 3
    gone &= (np.arange(len(log)) < 0.4 * len(log)) & (log["click"] == 0)
    log = log[~gone]
    log.to_parquet(path)
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    summary, console = run(tmp_path)
    print(console)
    assert "before the calibration" in console
    assert summary["calibration"]["why"] is None
    (function,) = summary["calibration"]["functions"]
    assert function["rows"] == summary["rows"]["eval"]
    assert function["positives"] == summary["positives"]["eval"]
    found = summary["evaluation"]
    assert found["split"] == "test"
    entries = found["calibration"]["metrics"]
    error = entries["expected_calibration_error"]
    assert error["value"] < 0.4 * error["baseline"]
    assert entries["calibration"]["baseline"] > 1.2
    assert entries["calibration"]["value"] == pytest.approx(1, abs=0.1)
    assert entries["auc"]["difference"] == pytest.approx(0, abs=1e-5)
    assert entries["logloss"]["difference_interval"][1] < 0
    # All that serves the model gives the calibrated probability.
    model = max((tmp_path / "models/tiny").iterdir(), key=lambda p: p.name)
    rows = log.tail(500)
    rows.to_parquet(tmp_path / "some.parquet")
    code, _, err = lionctr(
        *("predict", str(model), str(tmp_path / "some.parquet")),
        *("--out", str(tmp_path / "scored")),
    )
    assert code == 0, err
    scored = pd.concat(
        pd.read_parquet(part)
        for part in sorted((tmp_path / "scored").glob("*.parquet"))
    )
    signature = tf.saved_model.load(str(model)).signatures["serving_default"]
    columns = {
        name: tf.constant(rows[name].fillna("").tolist())
        if spec.dtype == tf.string
        else tf.constant(rows[name].astype(float).tolist(), spec.dtype)
        for name, spec in signature.structured_input_signature[1].items()
    }
    served = signature(**columns)["ctr"].numpy()
    np.testing.assert_allclose(np.sort(scored["ctr"]), np.sort(served))
    assert served.mean() < 1.2 * rows["click"].mean()
    # The weights went on uncalibrated; each value with enough clicks has a
    # function, and the next training fits its own.
    later, _ = run(
        tmp_path,
        "train.warm_start=latest_blessed",
        "evaluate.calibrate={method: platt, by: device}",
    )
    functions = later["calibration"]["functions"]
    assert len(functions) > 1 and functions[-1]["name"] == "all rows"
    assert later["warm_start"]["carried"] and not later["warm_start"]["reason"]
    entries = later["evaluation"]["calibration"]["metrics"]
    assert entries["calibration"]["baseline"] > 1.2
    assert entries["calibration"]["value"] == pytest.approx(1, abs=0.1)
    # Eval has fewer clicks than isotonic needs.
    last, console = run(tmp_path, "evaluate.calibrate=isotonic")
    assert "no calibration: " in console
    assert "isotonic needs 1,000 of either label" in last["calibration"]["why"]
    assert last["calibration"]["functions"] == []
    assert last["evaluation"]["calibration"] is None
    assert any("no calibration" in line for line in last["warnings"])
