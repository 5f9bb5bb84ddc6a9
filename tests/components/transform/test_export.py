"""Weights and times of rows on the way from examples to the export."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss, roc_auc_score

from models.export import Served, export
from models.input_pipeline.row_counts import WEIGHTS
from tests.components.transform import runs

SPEC: dict[str, Any] = {
    "label": tf.io.FixedLenFeature([], tf.int64),
    "site": tf.io.VarLenFeature(tf.string),
    "example_weight": tf.io.VarLenFeature(tf.float32),
    "t": tf.io.VarLenFeature(tf.string),
}
TIME = {
    "of": ["hour", "weekday"],
    "source": {"column": "t", "format": "%Y%m%d%H", "zone": "Europe/Berlin"},
}
FEATURES = {
    "categorical": ["site"],
    "time": TIME,
    "crosses": [{"of": ["t_hour", "site"], "buckets": 50}],
}
CUSTOM: dict[str, Any] = {
    "features": FEATURES,
    "model": {"name": "wide_deep", "hidden": [4], "dropout": 0.0},
    "optimizer": {"name": "lion", "learning_rate": 0.01},
    "train": {"batch_size": 64, "epochs": 1, "jit": False},
    "negatives": {},
}


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [
        {
            "site": f"s{draw.randrange(5)}",
            "label": int(draw.random() < 0.3),
            "example_weight": draw.uniform(0.5, 4),
            "t": f"2024-06-{draw.randrange(1, 31):02}T"
            f"{draw.randrange(22):02}:15:00Z",
        }
        for _ in range(count)
    ]


def test_export_needs_the_time_and_no_weight(tmp_path: Path) -> None:
    splits = {"train": rows(300, 1), "eval": rows(200, 2)}
    weights = {name: sums(found) for name, found in splits.items()}
    job = runs.training(CUSTOM, tmp_path, splits, SPEC, {WEIGHTS: weights})
    transform = job.files.transform
    train = sums(splits["train"])
    assert job.base_rate == pytest.approx(train["positives"] / train["rows"])

    model = job.fit().model
    export(Served(model, transform, job.features), f"{tmp_path}/model", {})
    loaded = tf.saved_model.load(f"{tmp_path}/model")
    signature = loaded.signatures["serving_default"]
    assert signature.structured_input_signature[1].keys() == {"site", "t"}
    labels, weights, sites, times = (
        [row[name] for row in splits["eval"]]
        for name in ("label", "example_weight", "site", "t")
    )

    def served(times: list[str]) -> np.ndarray:
        inputs = {"site": tf.constant(sites), "t": tf.constant(times)}
        found: np.ndarray = signature(**inputs)["ctr"].numpy()
        return found.astype(float)

    p = served(times)
    # The log's own form: hours of Berlin's clock, two ahead in June.
    logged = [
        f"{datetime.fromisoformat(t) + timedelta(hours=2):%Y%m%d%H}"
        for t in times
    ]
    assert np.array_equal(served(logged), p)
    assert not np.array_equal(served(logged[1:] + logged[:1]), p)
    scores = job.scores(model)
    assert scores.logloss == pytest.approx(
        log_loss(labels, p, sample_weight=weights), rel=1e-5
    )
    assert scores.auc == pytest.approx(
        roc_auc_score(labels, p, sample_weight=weights)
    )


def sums(found: list[dict[str, Any]]) -> dict[str, float]:
    return {
        "rows": sum(row["example_weight"] for row in found),
        "positives": sum(r["example_weight"] for r in found if r["label"]),
    }
