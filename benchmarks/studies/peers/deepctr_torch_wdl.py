"""DeepCTR-Torch's WDL, `fit` with Adam."""

from __future__ import annotations

from typing import Any

import torch
import turns
from deepctr_torch.inputs import DenseFeat, SparseFeat, get_feature_names
from deepctr_torch.models import WDL


class Contender:
    """See turns.py."""

    def __init__(self, rows: turns.Rows, settings: turns.Settings) -> None:
        columns = [
            SparseFeat(f"C{i}", size, embedding_dim=settings.dim)
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
            torch.optim.Adam(self._model.parameters(), settings.rate),
            "binary_crossentropy",
            metrics=[],
        )
        values = turns.named(rows)
        self._inputs = {
            name: values[name] for name in get_feature_names(columns)
        }
        self._label, self._batch = rows.label, settings.batch

    def train(self, rows: Any) -> None:
        self._model.fit(
            {name: x[rows] for name, x in self._inputs.items()},
            self._label[rows],
            self._batch,
            verbose=0,
            shuffle=False,
        )

    def predict(self, rows: Any) -> Any:
        inputs = {name: x[rows] for name, x in self._inputs.items()}
        return self._model.predict(inputs, 4096)[:, 0]


if __name__ == "__main__":
    turns.main(Contender)
