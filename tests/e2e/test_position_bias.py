"""A feature that only training sees takes the bias of positions away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from scipy.stats import spearmanr

from pipeline.commands.generate import generate
from tests.e2e.attempts import Attempts

CONFIG = """
name: tiny
data:
  impressions: {path: logs/impressions.parquet, format: parquet}
  label: click
  time: timestamp
  split: {by: time, eval: 0.1}
features:
  numeric:
    - price
    - session_seconds
    - user_impressions
    - user_clicks
    - {name: page_depth, transform: buckets}
    - {name: ad_age_hours, transform: buckets}
  categorical: [user_id, ad_id, campaign_id, advertiser_id, site_id,
    site_category, device, position, country, connection SLOT]
evaluate:
  metrics: {logloss: {max: 1}, calibration: {min: 0.1, max: 10}}
train: {linear_start: off}
serving_gate: off
push: {to: models}
"""
ROWS = 60_000


def ranking(folder: Path, rows: pd.DataFrame, relevance: np.ndarray) -> float:
    """Rank correlation of the served predictions with the truth."""
    newest = max((folder / "models/tiny").iterdir())
    model = tf.saved_model.load(str(newest))
    signature = model.signatures["serving_default"]
    columns = {
        name: tf.constant(rows[name].fillna("").tolist())
        if spec.dtype == tf.string
        else tf.constant(rows[name].astype(float).tolist(), spec.dtype)
        for name, spec in signature.structured_input_signature[1].items()
    }
    return float(spearmanr(signature(**columns)["ctr"], relevance)[0])


@pytest.mark.slow
def test_the_served_ranking_is_nearer_to_the_truth(tmp_path: Path) -> None:
    generate(ROWS, tmp_path / "logs", 5, "parquet", position_bias=1.0)
    rows = pd.read_parquet(tmp_path / "logs/impressions.parquet").tail(6000)
    truth = pd.read_parquet(tmp_path / "logs/truth.parquet").tail(6000)
    rows["slot"] = rows["slot"].astype(str)
    found = {}
    for name, slot in (
        ("without", ""),
        ("ordinary", ", slot"),
        ("constant", ", {name: slot, serve: 1}"),
        ("shallow", ", {name: slot, serve: shallow}"),
    ):
        (tmp_path / "tiny.yaml").write_text(CONFIG.replace(" SLOT", slot))
        code, console = Attempts(tmp_path).run()
        assert code == 0, console
        found[name] = ranking(tmp_path, rows, truth["relevance"].to_numpy())
        apart = name in ("constant", "shallow")
        assert ("the same as served" in console) == apart
        assert ("slot: not served; " in console) == (name == "shallow")
    print(found)
    for name in ("constant", "shallow"):
        assert found[name] > found["without"] + 0.02
        assert found[name] > found["ordinary"] + 0.02
