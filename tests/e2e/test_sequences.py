"""Sequences, from the log to the server and to batch scoring."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tests.e2e.attempts import Attempts

CONFIG = """
name: tiny
data:
  impressions: {path: log.jsonl, format: jsonl}
  label: click
  split: {by: order, eval: 0.2}
features:
  categorical: [{name: ad_id, dim: 8, min_count: 1}, {name: kind, dim: 4}]
  sequences:
    - {of: history, items: ad_id, max_len: 10,
       sides: [{of: kinds, items: kind}, {of: gaps}]}
model: {name: din, hidden: [16]}
optimizer: {name: adam, learning_rate: 0.01}
train: {batch_size: 128, epochs: 4}
evaluate:
  importance: {rows: 300, repeats: 1}
  metrics: {logloss: {max: 1}, calibration: {min: 0.1, max: 10}}
push: {to: models}
"""
ROWS, ADS, TOPICS = 3000, 60, 4


def rows() -> list[dict[str, Any]]:
    """Rows that are clicked where the ad is of the topic of the history."""
    rng = np.random.default_rng(0)
    topic = rng.integers(0, TOPICS, ADS)
    made = []
    for number in range(ROWS):
        taste, ad = rng.integers(0, TOPICS), rng.integers(0, ADS)
        length = int(rng.integers(0, 14))
        liked = rng.choice(np.flatnonzero(topic == taste), length)
        logit = -2 + 4 * (topic[ad] == taste and length > 0)
        made.append(
            {
                "id": f"r{number}",
                "ad_id": f"a{ad}",
                "kind": f"k{topic[ad] % 2}",
                "history": [f"a{item}" for item in liked],
                "kinds": "|".join(f"k{topic[item] % 2}" for item in liked),
                "gaps": [float(gap) for gap in range(length, 0, -1)],
                "click": int(rng.random() < 1 / (1 + np.exp(-logit))),
            }
        )
    return made


@pytest.mark.slow
def test_sequences_mean_the_same_from_the_log_to_the_answer(
    tmp_path: Path,
) -> None:
    log = rows()
    bad = {**log[0], "gaps": [1.0] * 20}
    lines = [json.dumps(row) + "\n" for row in [bad, *log]]
    (tmp_path / "log.jsonl").write_text("".join(lines))
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    code, console = Attempts(tmp_path).run()
    assert code == 0, console  # the ServingGate compares with the server
    assert "1 rejected" in console
    (run,) = (tmp_path / "runs/tiny/runs").glob("*/summary.json")
    judged = json.loads(run.read_text())["evaluation"]["metrics"]
    assert judged["auc"]["value"] > 0.6
    (first,) = (tmp_path / "models/tiny").iterdir()
    some = log[-200:]
    signature = tf.saved_model.load(str(first)).signatures["serving_default"]
    found = signature(
        ad_id=tf.constant([row["ad_id"] for row in some]),
        kind=tf.constant([row["kind"] for row in some]),
        history=tf.constant(["|".join(row["history"]) for row in some]),
        kinds=tf.constant([row["kinds"] for row in some]),
        gaps=tf.constant(["|".join(map(str, row["gaps"])) for row in some]),
    )["ctr"]

    subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "predict", "models/tiny"]
        + ["log.jsonl", "--out", "scored", "--columns", "id"],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    scored = pd.concat(map(pd.read_parquet, tmp_path.glob("scored/*.parquet")))
    assert len(scored) == ROWS  # the same row is rejected
    by_id = scored.set_index("id")["ctr"]
    np.testing.assert_allclose(
        by_id.loc[[row["id"] for row in some]], found, atol=1e-6
    )
