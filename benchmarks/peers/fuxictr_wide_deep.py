"""FuxiCTR's WideDeep (its model zoo's code, on its package's layers), Adam.

The package on PyPI leaves the model zoo out. As there, numbers are embedded.
"""

from __future__ import annotations

import tempfile
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

    def __init__(self, feature_map: Any, **settings: Any) -> None:
        super().__init__(feature_map, model_id="WideDeep", **settings)
        self.embedding_layer = FeatureEmbedding(feature_map, turns.DIM)
        self.lr_layer = LogisticRegression(feature_map, use_bias=False)
        self.dnn = MLP_Block(
            input_dim=turns.DIM * feature_map.num_fields,
            output_dim=1,
            hidden_units=list(turns.HIDDEN),
            hidden_activations="ReLU",
        )
        self.compile("adam", "binary_crossentropy", 1e-3)
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


def main() -> None:
    torch.set_num_threads(2)
    rows = turns.read()
    model = WideDeep(
        feature_map(rows),
        verbose=0,
        model_root=tempfile.gettempdir(),
        metrics=["AUC"],
    )
    model.train()
    columns = {f"I{i}": rows.dense[:, i] for i in range(rows.dense.shape[1])}
    columns |= {f"C{i}": rows.ids[:, i] for i in range(len(rows.sizes))}
    columns["label"] = rows.label
    tensors = {k: torch.from_numpy(v.copy()) for k, v in columns.items()}

    def train(turn: int, batches: int) -> None:
        part = rows.part(turn, batches)
        for first in range(part.start, part.stop, turns.BATCH):
            batch = slice(first, first + turns.BATCH)
            model.train_step({k: v[batch] for k, v in tensors.items()})

    turns.serve(train)


if __name__ == "__main__":
    main()
