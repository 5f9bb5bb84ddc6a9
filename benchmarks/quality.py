"""Each run's model beside a logistic regression and a constant.

    python benchmarks/quality.py configs/criteo.yaml [configs/...]

Run the configs first: it reads the examples and metrics of their last runs,
so that all models see the same rows and the same split.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from pipeline.config import PipelineConfig, load


def frame(folder: Path, config: PipelineConfig) -> pd.DataFrame:
    """The examples of one split, NaN and "" where missing."""
    records = tf.data.TFRecordDataset(sorted(map(str, folder.glob("data_*"))))
    spec = {
        name: tf.io.FixedLenFeature([], tf.float32, float("nan"))
        if kind == "float"
        else tf.io.FixedLenFeature(
            [],
            tf.int64 if kind == "int" else tf.string,
            -1 if kind == "int" else "",
        )
        for name, kind in config.columns().items()
    } | {"label": tf.io.FixedLenFeature([], tf.int64)}
    parsed = records.batch(4096).map(lambda x: tf.io.parse_example(x, spec))
    parts = [
        pd.DataFrame({k: v.numpy() for k, v in batch.items()})
        for batch in parsed
    ]
    return pd.concat(parts, ignore_index=True)


def logistic_regression(
    train: pd.DataFrame, test: pd.DataFrame, config: PipelineConfig
) -> np.ndarray:
    """Predictions for `test`: one-hot ids seen twice, log-scaled numbers."""
    kinds = config.features.kinds()
    numbers = [name for name, kind in kinds.items() if kind == "float"]
    ids = [name for name, kind in kinds.items() if kind != "float"]
    for data in (train, test):
        values = data[numbers].fillna(0)
        data[numbers] = np.sign(values) * np.log1p(values.abs())
    model = make_pipeline(
        ColumnTransformer(
            [
                ("numbers", StandardScaler(), numbers),
                (
                    "ids",
                    OneHotEncoder(
                        handle_unknown="infrequent_if_exist", min_frequency=2
                    ),
                    ids,
                ),
            ]
        ),
        LogisticRegression(C=0.1, max_iter=1000),
    )
    model.fit(train, train["label"])
    return np.asarray(model.predict_proba(test)[:, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", nargs="+", type=Path)
    print(f"{'':14}{'rows':>8}  {'AUC':>18}  {'logloss':>24}")
    print(f"{'':22}  {'ours':>9}{'LR':>9}  {'ours':>8}{'LR':>8}{'constant':>9}")
    for path in parser.parse_args().configs:
        config = load(path)
        home = Path(config.root) / config.name
        summary = json.loads(
            sorted(home.glob("runs/*/summary.json"))[-1].read_text()
        )
        newest = max(
            (home / "artifacts/ClickLogGen/examples").iterdir(),
            key=lambda folder: int(folder.name),
        )
        train = frame(newest / "Split-train", config)
        test = frame(newest / "Split-eval", config)
        label = test["label"].to_numpy()
        constant = np.full(len(test), train["label"].mean())
        scores = logistic_regression(train, test, config)
        ours = summary["metrics"]
        print(
            f"{config.name:14}{len(test):8,}  {ours['auc']:9.4f}"
            f"{roc_auc_score(label, scores):9.4f}  {ours['logloss']:8.4f}"
            f"{log_loss(label, scores):8.4f}{log_loss(label, constant):9.4f}"
        )


if __name__ == "__main__":
    main()
