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

    def __init__(self, rows: turns.Rows, fused: bool) -> None:
        super().__init__()
        self.keys = [f"C{i}" for i in range(len(rows.sizes))]
        self.deep = self.tables(rows.sizes, turns.DIM, fused)
        self.wide = self.tables(rows.sizes, 1 if not fused else 4, fused)
        width = turns.DIM * len(rows.sizes) + rows.dense.shape[1]
        self.mlp = MLP(width, list(turns.HIDDEN))
        self.out = torch.nn.Linear(turns.HIDDEN[-1], 1)

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
        return self.out(self.mlp(x)).squeeze(1) + wide


def main() -> None:
    torch.set_num_threads(2)
    rows = turns.read()
    model = WideDeep(rows, "fused" in sys.argv)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    loss = torch.nn.BCEWithLogitsLoss()
    ids, dense, label = map(
        torch.from_numpy, (rows.ids, rows.dense, rows.label)
    )
    lengths = torch.ones(turns.BATCH * len(rows.sizes), dtype=torch.int32)

    def train(turn: int, batches: int) -> None:
        part = rows.part(turn, batches)
        for first in range(part.start, part.stop, turns.BATCH):
            batch = slice(first, first + turns.BATCH)
            keyed = KeyedJaggedTensor(
                model.keys, ids[batch].T.reshape(-1), lengths=lengths
            )
            optimizer.zero_grad()
            loss(model(keyed, dense[batch]), label[batch]).backward()
            optimizer.step()

    turns.serve(train)


if __name__ == "__main__":
    main()
