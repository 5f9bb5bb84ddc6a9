"""Each run's model beside a logistic regression and a constant.

    python benchmarks/quality.py configs/criteo.yaml [configs/...]

Run the configs first: it reads the examples and metrics of their last runs,
so that all models see the same rows and the same split.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from pipeline.config import PipelineConfig, load

_TYPES: dict[str, tuple[tf.DType, Any]] = {
    "float": (tf.float32, float("nan")),
    "int": (tf.int64, -1),
    "string": (tf.string, b""),
}


def last_run(config: PipelineConfig) -> tuple[PipelineConfig, dict[str, Any]]:
    """Config and summary of the last run that measured a model."""
    home = Path(config.root) / config.name
    for path in sorted(home.glob("runs/*/summary.json"), reverse=True):
        summary = json.loads(path.read_text("utf-8"))
        if summary["metrics"]:
            return load(path.with_name("config.yaml")), summary
    raise FileNotFoundError(f"no run with metrics in {home}/runs; run it first")


def examples(config: PipelineConfig, summary: dict[str, Any]) -> Path:
    """The folder of the examples that the run trained on."""
    ingest = Path(config.root) / config.name / "artifacts/ClickLogGen"
    found = sorted((ingest / "examples").iterdir(), key=lambda f: int(f.name))
    for folder in reversed(found):
        counts = ingest / "rejected" / folder.name / "counts.json"
        rows = json.loads(counts.read_text("utf-8"))
        if all(rows.get(name) == n for name, n in summary["rows"].items()):
            return folder
    raise FileNotFoundError(f"the examples of the last run are not in {ingest}")


def frame(folder: Path, config: PipelineConfig) -> pd.DataFrame:
    """The examples of one split, NaN, -1 or "" where missing."""
    records = tf.data.TFRecordDataset(sorted(map(str, folder.glob("data_*"))))
    kinds = config.columns() | {"label": "int"}
    # A missing value is an empty list, for which FixedLenFeature's default
    # does not stand in.
    spec = {
        name: tf.io.VarLenFeature(_TYPES[kind][0])
        for name, kind in kinds.items()
    }

    def parse(batch: tf.Tensor) -> dict[str, tf.Tensor]:
        sparse = tf.io.parse_example(batch, spec)
        shape = [tf.size(batch, tf.int64), 1]
        return {
            name: tf.sparse.to_dense(
                tf.SparseTensor(value.indices, value.values, shape),
                _TYPES[kinds[name]][1],
            )[:, 0]
            for name, value in sparse.items()
        }

    parts = [
        pd.DataFrame({k: v.numpy() for k, v in batch.items()})
        for batch in records.batch(4096).map(parse)
    ]
    data = pd.concat(parts, ignore_index=True)
    text = [name for name, kind in kinds.items() if kind == "string"]
    data[text] = data[text].map(lambda value: value.decode())
    return data


def logistic_regression(
    train: pd.DataFrame, test: pd.DataFrame, config: PipelineConfig
) -> np.ndarray:
    """Predictions for `test`: one-hot ids seen twice, log-scaled numbers."""
    kinds = config.features.kinds()
    numbers = [name for name, kind in kinds.items() if kind == "float"]
    lists = {f.name: f.list for f in config.features.categorical if f.list}
    ids = [n for n, kind in kinds.items() if kind != "float" and n not in lists]
    for data in (train, test):
        values = data[numbers].fillna(0)
        data[numbers] = np.sign(values) * np.log1p(values.abs())
    columns: list[tuple[str, Any, Any]] = [
        ("numbers", StandardScaler(), numbers),
        (
            "ids",
            OneHotEncoder(
                handle_unknown="infrequent_if_exist", min_frequency=2
            ),
            ids,
        ),
    ]
    for name, separator in lists.items():
        values = CountVectorizer(
            analyzer=partial(_values, separator=separator), binary=True
        )
        columns.append((f"list {name}", values, name))
    model = make_pipeline(
        ColumnTransformer(columns), LogisticRegression(C=0.1, max_iter=1000)
    )
    model.fit(train, train["label"])
    return np.asarray(model.predict_proba(test)[:, 1])


def _values(text: str, separator: str) -> list[str]:
    return [value for value in text.split(separator) if value]


def main() -> None:
    """Prints one line a config."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("configs", nargs="+", type=Path, metavar="CONFIG")
    configs = parser.parse_args().configs
    print(f"{'':14}{'eval':>8}  {'AUC':>18}  {'logloss':>25}")
    print(
        f"{'':14}{'rows':>8}  {'ours':>9}{'LR':>9}"
        f"  {'ours':>8}{'LR':>8}{'constant':>9}"
    )
    failed = False
    for path in configs:
        try:
            config, summary = last_run(load(path))
            folder = examples(config, summary)
        except (OSError, ValueError, KeyError) as error:
            failed = True
            print(f"{path}: {error}")
            continue
        train = frame(folder / "Split-train", config)
        test = frame(folder / "Split-eval", config)
        label = test["label"].to_numpy()
        constant = np.full(len(test), train["label"].mean())
        scores = logistic_regression(train, test, config)
        ours = summary["metrics"]
        print(
            f"{config.name:14}{len(test):8,}  {ours['auc']:9.4f}"
            f"{roc_auc_score(label, scores):9.4f}  {ours['logloss']:8.4f}"
            f"{log_loss(label, scores):8.4f}{log_loss(label, constant):9.4f}",
            flush=True,
        )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
