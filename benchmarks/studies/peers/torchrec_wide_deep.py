"""TorchRec: EmbeddingBagCollections for a wide and a deep part, Adam.

    torchrec_wide_deep.py ROWS [fused]

TorchRec has no wide and deep of its own; this one is put together from its
modules. `fused` updates the tables inside their backward pass by row-wise
Adagrad, as its DLRM example does: its CPU kernels have no Adam there.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import turns
from torchrec import (
    EmbeddingBagCollection,
    EmbeddingBagConfig,
    KeyedJaggedTensor,
)
from torchrec.modules.fused_embedding_modules import (
    FusedEmbeddingBagCollection,
)
from torchrec.modules.mlp import MLP


class WideDeep(torch.nn.Module):
    """Linear weights of ids beside an MLP over embeddings and numbers."""

    def __init__(
        self, rows: turns.Rows, settings: turns.Settings, fused: bool
    ) -> None:
        super().__init__()
        self.keys = [f"C{i}" for i in range(len(rows.sizes))]
        self.deep = self.tables(rows.sizes, settings.dim, fused)
        self.wide = self.tables(rows.sizes, 1 if not fused else 4, fused)
        width = settings.dim * len(rows.sizes) + rows.dense.shape[1]
        self.mlp = MLP(width, list(settings.hidden))
        self.dropout = torch.nn.Dropout(settings.dropout)
        self.out = torch.nn.Linear(settings.hidden[-1], 1)

    def tables(self, sizes: list[int], dim: int, fused: bool) -> Any:
        configs = [
            EmbeddingBagConfig(
                name=f"{key}_{dim}",
                embedding_dim=dim,
                num_embeddings=size,
                feature_names=[key],
            )
            for key, size in zip(self.keys, sizes, strict=True)
        ]
        if not fused:
            return EmbeddingBagCollection(configs)
        from torchrec.optim import RowWiseAdagrad

        return FusedEmbeddingBagCollection(
            configs, RowWiseAdagrad, {"lr": 1e-2}, device=torch.device("cpu")
        )

    def forward(self, ids: Any, numbers: Any) -> Any:
        x = torch.cat([self.deep(ids).values(), numbers], 1)
        wide = self.wide(ids).values().sum(1)
        return self.out(self.dropout(self.mlp(x))).squeeze(1) + wide


class Contender:
    """See turns.py."""

    def __init__(self, rows: turns.Rows, settings: turns.Settings) -> None:
        torch.set_num_threads(2)
        torch.manual_seed(settings.seed)
        self._model = WideDeep(rows, settings, "fused" in sys.argv)
        self._optimizer = torch.optim.Adam(
            self._model.parameters(), settings.rate, fused=True
        )
        self._loss = torch.nn.BCEWithLogitsLoss()
        self._ids, self._dense, self._label = map(
            torch.from_numpy, (rows.ids, rows.dense, rows.label)
        )
        self._batch = settings.batch
        self._lengths = torch.ones(
            settings.batch * len(rows.sizes), dtype=torch.int32
        )

    def train(self, rows: Any) -> None:
        self._model.train()
        for batch in turns.batches(rows, self._batch):
            self._optimizer.zero_grad()
            self._loss(self._logits(batch), self._label[batch]).backward()
            self._optimizer.step()

    def predict(self, rows: Any) -> Any:
        self._model.eval()
        with torch.no_grad():
            logits = [
                self._logits(batch)
                for batch in turns.batches(rows, self._batch)
            ]
        return torch.sigmoid(torch.cat(logits).double()).numpy()

    def _logits(self, batch: Any) -> Any:
        ids = self._ids[batch].T.reshape(-1)
        keyed = KeyedJaggedTensor(
            self._model.keys, ids, lengths=self._lengths[: len(ids)]
        )
        return self._model(keyed, self._dense[batch])


if __name__ == "__main__":
    turns.main(Contender)
