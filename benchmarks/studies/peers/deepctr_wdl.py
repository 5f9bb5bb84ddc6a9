"""DeepCTR's WDL on TensorFlow, `fit` with Adam."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import turns
from deepctr.feature_column import DenseFeat, SparseFeat, get_feature_names
from deepctr.models import WDL


class Contender:
    """See turns.py."""

    def __init__(self, rows: turns.Rows, settings: turns.Settings) -> None:
        tf.keras.backend.clear_session()
        tf.keras.utils.set_random_seed(settings.seed)
        columns = [
            SparseFeat(f"C{i}", size, embedding_dim=settings.dim, dtype="int64")
            for i, size in enumerate(rows.sizes)
        ]
        columns += [DenseFeat(f"I{i}", 1) for i in range(rows.dense.shape[1])]
        self._model = WDL(
            columns,
            columns,
            dnn_hidden_units=settings.hidden,
            dnn_dropout=settings.dropout,
            l2_reg_linear=settings.l2,
            l2_reg_embedding=settings.l2,
            seed=settings.seed,
        )
        self._model.compile(
            tf.keras.optimizers.Adam(settings.rate), "binary_crossentropy"
        )
        values = turns.named(rows)
        self._inputs = [values[name] for name in get_feature_names(columns)]
        self._label, self._batch = rows.label, settings.batch

    def train(self, rows: Any) -> None:
        self._model.fit(
            [x[rows] for x in self._inputs],
            self._label[rows],
            self._batch,
            verbose=0,
        )

    def predict(self, rows: Any) -> Any:
        inputs = [x[rows] for x in self._inputs]
        return self._model.predict(inputs, 4096, verbose=0)[:, 0]


if __name__ == "__main__":
    turns.main(Contender)
