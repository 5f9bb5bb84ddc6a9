"""LightGBM: boosted trees, ids as categories; for quality.py alone."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import turns

_TREES = 2000
_FEW = 50  # trees without getting better


class Contender:
    """See turns.py; `train` looks at the rows to choose by for its end."""

    def __init__(self, rows: turns.Rows, settings: turns.Settings) -> None:
        self._rows, self._settings = rows, settings
        self._values = np.concatenate([rows.dense, rows.ids], 1)
        self._model: Any = None

    def train(self, rows: Any) -> None:
        first = self._rows.dense.shape[1]
        data = lightgbm.Dataset(
            self._values[rows],
            self._rows.label[rows],
            categorical_feature=list(range(first, self._values.shape[1])),
            free_raw_data=False,
        )
        end, chosen, _ = self._rows.splits
        valid = data.create_valid(
            self._values[end:chosen], self._rows.label[end:chosen]
        )
        settings = self._settings
        self._model = lightgbm.train(
            {
                "objective": "binary",
                "learning_rate": settings.rate,
                "num_leaves": settings.hidden[0],
                "lambda_l2": settings.l2,
                "feature_fraction": 1 - settings.dropout,
                "seed": settings.seed,
                "num_threads": 2,
                "verbose": -1,
            },
            data,
            _TREES,
            [valid],
            callbacks=[lightgbm.early_stopping(_FEW, verbose=False)],
        )

    def predict(self, rows: Any) -> Any:
        return self._model.predict(self._values[rows])


if __name__ == "__main__":
    turns.main(Contender)
