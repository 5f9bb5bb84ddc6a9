"""What train.py's contenders share: the rows, and training when told to.

Each runs in a process, and maybe an environment, of its own: `CONTENDER.py
ROWS` with the folder of rows. It answers each line of input, once it has
trained on the next rows, with a line of JSON; its caller takes turns.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

BATCH, DIM, HIDDEN = 4096, 16, (256, 128)
BATCHES = 24  # a turn
WARM_UP = 6

# Libraries print what they like, even when they are imported: the answers go
# to the caller alone.
_answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


@dataclass(frozen=True)
class Rows:
    """Training rows in memory.

    ids: int64 [N, F], those of each field from 0; sizes: ids of each field.
    """

    ids: Any
    dense: Any
    label: Any
    sizes: list[int]

    def part(self, turn: int, batches: int) -> slice:
        """The rows of a turn; after the last ones come the first again."""
        per_pass = max(1, len(self.label) // (batches * BATCH))
        first = turn % per_pass * batches * BATCH
        return slice(first, first + batches * BATCH)


def read() -> Rows:
    """The rows that the command names."""
    folder = Path(sys.argv[1])
    ids, dense, label = (
        np.load(folder / f"{name}.npy") for name in ("ids", "dense", "label")
    )
    sizes = json.loads((folder / "sizes.json").read_text("utf-8"))
    return Rows(ids, dense, label, sizes)


def serve(train: Callable[[int, int], Any]) -> None:
    """Calls train(turn, batches) for each line of input."""
    train(0, WARM_UP)
    print("ready", file=_answers)
    for turn, _ in enumerate(sys.stdin, 1):
        wall, cpu = time.perf_counter(), time.process_time()
        train(turn, BATCHES)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        took = {"wall": wall, "cpu": cpu, "rows": BATCHES * BATCH}
        print(json.dumps(took), file=_answers)
