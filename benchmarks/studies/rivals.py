"""Logistic regression and boosted trees, beside which `auto` is judged."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.studies.encoding import encoded
from benchmarks.studies.logs import Log
from benchmarks.studies.scores import judged, parts

PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
LEAVES = (7, 31)
_RATE, _TREES, _FEW = 0.1, 1000, 30  # _FEW trees without getting better


def regression(log: Log) -> tuple[float, float]:
    """Test AUC and logloss of scikit-learn's logistic regression."""
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    train, _, test = parts(len(log.label))
    newest = int(train.stop * 0.9)

    def inputs(end: int) -> Any:
        found = []
        if log.ids.shape[1]:
            encoder = OneHotEncoder(handle_unknown="ignore", dtype=np.float32)
            found.append(encoder.fit(log.ids[:end]).transform(log.ids))
        if log.numbers.shape[1]:
            scaler = StandardScaler().fit(log.numbers[:end])
            found.append(sparse.csr_matrix(scaler.transform(log.numbers)))
        return sparse.hstack(found, "csr")

    def fitted(x: Any, end: int, c: float) -> Any:
        model = LogisticRegression(C=c, max_iter=300)
        return model.fit(x[:end], log.label[:end])

    x = inputs(newest)
    later = slice(newest, train.stop)

    def loss(c: float) -> float:
        chance = fitted(x, newest, c).predict_proba(x[later])[:, 1]
        return float(log_loss(log.label[later], chance, labels=[0, 1]))

    best = min(PENALTIES, key=loss)
    x = inputs(train.stop)
    chance = fitted(x, train.stop, best).predict_proba(x[test])[:, 1]
    return judged(log.label[test], chance)


def trees(log: Log) -> tuple[float, float]:
    """Test AUC and logloss of LightGBM, whose eval rows choose its size.

    Ids are categories, those of Transform's vocabularies; LightGBM comes from
    elsewhere, such as `pip install --target FOLDER lightgbm` on PYTHONPATH.
    """
    import lightgbm

    train, held_out, test = parts(len(log.label))
    inputs = encoded(log)[1]
    ids = inputs.get("ids", np.zeros((len(log.label), 0)))
    x = np.concatenate([ids, log.numbers], 1)
    data = lightgbm.Dataset(
        x[train],
        log.label[train],
        categorical_feature=list(range(ids.shape[1])),
        free_raw_data=False,
    )
    chosen = data.create_valid(x[held_out], log.label[held_out])
    fitted = [
        lightgbm.train(
            {
                "objective": "binary",
                "learning_rate": _RATE,
                "num_leaves": leaves,
                "num_threads": 2,
                "verbose": -1,
            },
            data,
            _TREES,
            [chosen],
            callbacks=[lightgbm.early_stopping(_FEW, verbose=False)],
        )
        for leaves in LEAVES
    ]
    best = min(
        fitted, key=lambda one: one.best_score["valid_0"]["binary_logloss"]
    )
    return judged(log.label[test], best.predict(x[test]))
