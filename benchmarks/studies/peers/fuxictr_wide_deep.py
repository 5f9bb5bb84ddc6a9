"""FuxiCTR's WideDeep (its model zoo's code, on its package's layers), Adam.

The package on PyPI leaves the model zoo out. As there, numbers are embedded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import torch
import turns
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import (
    FeatureEmbedding,
    LogisticRegression,
    MLP_Block,
)
from fuxictr.pytorch.models import BaseModel


class WideDeep(BaseModel):
    """As model_zoo/WideDeep of FuxiCTR."""

    def __init__(self, feature_map: Any, settings: turns.Settings) -> None:
        super().__init__(
            feature_map,
            model_id="WideDeep",
            embedding_regularizer=settings.l2 or None,
            verbose=0,
            model_root=tempfile.gettempdir(),
            metrics=["AUC"],
        )
        self.embedding_layer = FeatureEmbedding(feature_map, settings.dim)
        self.lr_layer = LogisticRegression(feature_map, use_bias=False)
        self.dnn = MLP_Block(
            input_dim=settings.dim * feature_map.num_fields,
            output_dim=1,
            hidden_units=list(settings.hidden),
            hidden_activations="ReLU",
            dropout_rates=settings.dropout,
        )
        self.compile("adam", "binary_crossentropy", settings.rate)
        self.reset_parameters()
        self.model_to_device()
        self._max_gradient_norm = 10.0

    def forward(self, inputs: Any) -> dict[str, Any]:
        x = self.get_inputs(inputs)
        logit = self.lr_layer(x)
        logit = logit + self.dnn(self.embedding_layer(x).flatten(start_dim=1))
        return {"y_pred": self.output_activation(logit)}


def feature_map(rows: turns.Rows) -> Any:
    """FuxiCTR's description of the columns."""
    features = FeatureMap("rows", tempfile.gettempdir())
    features.labels = ["label"]
    for i in range(rows.dense.shape[1]):
        features.features[f"I{i}"] = {"source": "", "type": "numeric"}
    for i, size in enumerate(rows.sizes):
        features.features[f"C{i}"] = {
            "source": "",
            "type": "categorical",
            "padding_idx": None,
            "vocab_size": size,
        }
    features.num_fields = features.get_num_fields()
    features.set_column_index()
    return features


class Contender:
    """See turns.py."""

    def __init__(self, rows: turns.Rows, settings: turns.Settings) -> None:
        torch.set_num_threads(2)
        torch.manual_seed(settings.seed)
        self._model = WideDeep(feature_map(rows), settings)
        columns = {**turns.named(rows), "label": rows.label}
        self._columns = {n: torch.from_numpy(x) for n, x in columns.items()}
        self._batch = settings.batch

    def train(self, rows: Any) -> None:
        self._model.train()
        for batch in self._batches(rows):
            self._model.train_step(batch)

    def predict(self, rows: Any) -> Any:
        self._model.eval()
        with torch.no_grad():
            found = [self._model(b)["y_pred"] for b in self._batches(rows)]
        return torch.cat(found).double().numpy()[:, 0]

    def _batches(self, rows: Any) -> Iterator[dict[str, Any]]:
        for part in turns.batches(rows, self._batch):
            yield {name: x[part] for name, x in self._columns.items()}


if __name__ == "__main__":
    turns.main(Contender)
