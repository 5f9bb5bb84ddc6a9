"""PyTorch's side of lion_kernels.py: one update for each line of input.

    python torch_updates.py adam PARAMETERS
    python torch_updates.py sparse_adam IDS.npy ROWS DIM

Answers each line by an empty one. Runs in an environment of its own, with
torch and numpy; its caller holds the clock.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

import numpy as np
import torch


def adam(parameters: int) -> Callable[[], None]:
    """Adam, fused, on one dense parameter."""
    weights = torch.nn.Parameter(torch.zeros(parameters))
    weights.grad = torch.randn(parameters)
    optimizer = torch.optim.Adam([weights], 1e-4, fused=True)
    return optimizer.step


def sparse_adam(ids: np.ndarray, rows: int, dim: int) -> Callable[[], None]:
    """SparseAdam on one table, by each batch of `ids` in turn."""
    table = torch.nn.Parameter(torch.zeros(rows, dim))
    values = torch.randn(ids.shape[1], dim)
    gradients = itertools.cycle(
        torch.sparse_coo_tensor(
            torch.from_numpy(batch)[None], values, (rows, dim)
        )
        for batch in ids
    )
    optimizer = torch.optim.SparseAdam([table], 1e-4)

    def update() -> None:
        table.grad = next(gradients)
        optimizer.step()

    return update


def main() -> None:
    if sys.argv[1] == "adam":
        update = adam(int(sys.argv[2]))
    else:
        rows, dim = map(int, sys.argv[3:])
        update = sparse_adam(np.load(sys.argv[2]), rows, dim)
    for _ in sys.stdin:
        update()
        print(flush=True)


if __name__ == "__main__":
    main()
