"""Features of the time, from the log to the server and to batch scoring."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from pipeline.commands.generate import generate
from tests.e2e.attempts import Attempts

CONFIG = """
name: tiny
data:
  impressions: {path: logs/impressions.jsonl, format: jsonl}
  label: click
  time: timestamp
  split: {by: hash, eval: 0.2}
features:
  numeric: [price]
  categorical: [device, site_category]
  time: {of: [hour, is_weekend], zone: Europe/Berlin, dim: 4}
  crosses: [{of: [timestamp_hour, site_category], buckets: 1000}]
model: {hidden: [8]}
train: {batch_size: 256, epochs: 2}
evaluate:
  metrics: {logloss: {max: 1}, calibration: {min: 0.1, max: 10}}
push: {to: models}
"""


@pytest.mark.slow
def test_time_is_all_that_serving_needs(tmp_path: Path) -> None:
    generate(6000, tmp_path / "logs", 5, "jsonl")
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    code, console = Attempts(tmp_path).run()
    assert code == 0, console  # the ServingGate compares with the server
    (model,) = (tmp_path / "models/tiny").iterdir()
    signature = tf.saved_model.load(str(model)).signatures["serving_default"]
    inputs = signature.structured_input_signature[1]
    assert inputs.keys() == {"price", "device", "site_category", "timestamp"}

    lines = (tmp_path / "logs/impressions.jsonl").read_bytes().splitlines()
    rows = pd.DataFrame(
        json.loads(line) for line in lines if b'"broken' not in line
    ).head(500)
    columns = {
        "price": tf.constant(rows["price"].astype(float), tf.float32),
        "device": tf.constant(rows["device"].fillna("").tolist()),
        "site_category": tf.constant(rows["site_category"].fillna("").tolist()),
    }
    moments = pd.to_datetime(rows["timestamp"], utc=True)
    seconds = moments.astype("int64") // 10**9
    forms = {
        "logged": rows["timestamp"].tolist(),
        "seconds": seconds.astype(str).tolist(),
        "zoned": [t.isoformat() for t in moments.dt.tz_convert("Asia/Tokyo")],
    }
    served = {
        name: signature(**columns, timestamp=tf.constant(texts))["ctr"].numpy()
        for name, texts in forms.items()
    }
    assert np.array_equal(served["logged"], served["seconds"])
    assert np.array_equal(served["logged"], served["zoned"])
    other = tf.constant(forms["logged"][250:] + forms["logged"][:250])
    moved = signature(**columns, timestamp=other)["ctr"].numpy()
    assert not np.array_equal(served["logged"], moved)

    subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "predict", "models/tiny"]
        + ["logs/impressions.jsonl", "--out", "scored"]
        + ["--columns", "impression_id"],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    scored = pd.concat(map(pd.read_parquet, tmp_path.glob("scored/*.parquet")))
    by_id = scored.set_index("impression_id")["ctr"]
    np.testing.assert_allclose(
        by_id.loc[rows["impression_id"]], served["logged"], atol=1e-6
    )
