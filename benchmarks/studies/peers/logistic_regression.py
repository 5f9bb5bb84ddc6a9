"""Logistic regression on one-hot ids and scaled numbers, of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import turns
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler


class Contender:
    """See turns.py; `l2` is the penalty, and there is one epoch."""

    def __init__(self, rows: turns.Rows, settings: turns.Settings) -> None:
        self._label = rows.label
        self._model = LogisticRegression(
            C=1 / (settings.l2 or 1.0), max_iter=1000
        )
        count, fields = rows.ids.shape
        first = np.concatenate([[0], np.cumsum(rows.sizes)[:-1]])
        ids = sparse.csr_matrix(
            (
                np.ones(count * fields, np.float32),
                (rows.ids + first).ravel(),
                np.arange(count + 1) * fields,
            ),
            shape=(count, sum(rows.sizes)),
        )
        end = rows.splits[0]
        numbers = rows.dense
        if numbers.shape[1]:
            numbers = StandardScaler().fit(numbers[:end]).transform(numbers)
        self._inputs = sparse.hstack([ids, numbers], "csr")

    def train(self, rows: Any) -> None:
        self._model.fit(self._inputs[rows], self._label[rows])

    def predict(self, rows: Any) -> Any:
        return self._model.predict_proba(self._inputs[rows])[:, 1]


if __name__ == "__main__":
    turns.main(Contender)
