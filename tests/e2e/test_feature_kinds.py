"""Kinds of features, from the log to the server and to batch scoring."""

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
  numeric:
    - {name: price, clip: [0, 100], missing: indicator, pieces: 4}
    - {name: share, transform: min_max}
    - {name: count, transform: log_buckets, dim: 4}
  categorical:
    - {name: site, min_count: 1, dim: 4,
       pretrained: {path: sites.csv, frozen: true}}
    - {name: interests, list: "|", weights: ":", dim: 4}
    - {name: basket, list: ",", weights: "=", pool: sum, dim: 4,
       encode: hash, buckets: 50}
  vectors: [{name: item, size: 4}]
model: {hidden: [8]}
optimizer: {name: adam, learning_rate: 0.01}
train: {batch_size: 128, epochs: 6}
evaluate:
  metrics: {logloss: {max: 1}, calibration: {min: 0.1, max: 10}}
push: {to: models}
"""
ROWS = 4000


def rows(seed: int) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Rows, and their log-odds of a click."""
    world, rng = np.random.default_rng(0), np.random.default_rng(seed)
    taste, direction = world.normal(size=20), world.normal(size=4)
    made, logits = [], []
    for number in range(ROWS):
        liked = rng.integers(0, 20, 3)
        weights = rng.exponential(size=3).round(3)
        item = rng.normal(size=4).round(3)
        count = int(np.exp(rng.normal(2, 2)))
        price = None if rng.random() < 0.2 else float(rng.uniform(0, 100))
        logit = 2 * taste[liked] @ weights / weights.sum() + item @ direction
        logit += np.sin(2.5 * np.log1p(count)) + (price is None)
        made.append(
            {
                "id": f"r{number}",
                "price": 1e12 if number % 97 == 0 else price,
                "share": float(rng.random()),
                "count": count,
                "site": f"s{rng.integers(0, 5)}",
                "interests": "|".join(
                    f"i{i}:{w}" for i, w in zip(liked, weights, strict=True)
                ),
                "basket": [f"b{b}={b}" for b in rng.integers(0, 20, 2)],
                "item": None if number % 50 == 7 else item.tolist(),
                "click": int(rng.random() < 1 / (1 + np.exp(-logit))),
            }
        )
        logits.append(logit)
    return made, np.array(logits)


def text(value: Any, separator: str) -> str:
    if isinstance(value, list):
        return separator.join(map(str, value))
    return value or ""


def served(model: Path, some: list[dict[str, Any]]) -> np.ndarray:
    """Answers of `serving_default`."""
    signature = tf.saved_model.load(str(model)).signatures["serving_default"]
    columns = {
        name: [float("nan") if r[name] is None else r[name] for r in some]
        for name in ("price", "share", "count")
    } | {
        name: [text(row[name], ",") for row in some]
        for name in ("site", "interests", "basket", "item")
    }
    tensors = {
        name: tf.constant(
            values, "string" if isinstance(values[0], str) else "float32"
        )
        for name, values in columns.items()
    }
    return np.asarray(signature(**tensors)["ctr"])


@pytest.mark.slow
def test_kinds_mean_the_same_from_the_log_to_the_answer(
    tmp_path: Path,
) -> None:
    log, logits = rows(1)
    bad = [
        {**log[0], "interests": "i1:much"},
        {**log[0], "basket": ["b1=-2"]},
        {**log[0], "item": [1.0, 2.0]},
        {**log[0], "item": "1,2,x,4"},
    ]
    lines = [json.dumps(row) + "\n" for row in [*bad, *log]]
    (tmp_path / "log.jsonl").write_text("".join(lines))
    sites = [f"s{number},{number},0.5,-1,0\n" for number in range(4)]
    (tmp_path / "sites.csv").write_text("".join(["site,a,b,c,d\n", *sites]))
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    code, console = Attempts(tmp_path).run()
    assert code == 0, console  # the ServingGate compares with the server
    assert "4 rejected" in console
    covered = "4 of 5 values of the vocabulary have a vector in sites.csv"
    assert covered in console
    (first,) = (tmp_path / "models/tiny").iterdir()
    some = log[-500:]
    found = served(first, some)
    correlation = np.corrcoef(np.log(found / (1 - found)), logits[-500:])[0, 1]
    print(correlation)
    assert correlation > 0.5

    subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "predict", "models/tiny"]
        + ["log.jsonl", "--out", "scored", "--columns", "id"],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    scored = pd.concat(map(pd.read_parquet, tmp_path.glob("scored/*.parquet")))
    assert len(scored) == ROWS  # the same rows are rejected
    by_id = scored.set_index("id")["ctr"]
    np.testing.assert_allclose(
        by_id.loc[[row["id"] for row in some]], found, atol=1e-6
    )
