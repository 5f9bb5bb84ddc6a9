"""Shared harness of the contenders: the rows, and training in turns.

Each runs in a process, and maybe an environment, of its own: `CONTENDER.py
ROWS` with the folder of rows. It answers each line of input with a line of
JSON. For train.py it trains a turn on the next rows; its caller takes turns.
For quality.py (`CONTENDER.py ROWS quality`) a line holds settings, and
the answer is what a model trained with them is worth.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

# train.py says them by the environment, as a command may name them otherwise.
BATCH = int(os.environ.get("TURN_BATCH", "4096"))
HIDDEN = tuple(map(int, os.environ.get("TURN_HIDDEN", "256 128").split()))
DIM = 16
BATCHES = max(1, 24 * 4096 // BATCH)  # a turn
WARM_UP = 6
_PATIENCE = 2  # epochs

# Libraries print what they like, even when they are imported: the answers go
# to the caller alone.
_answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


@dataclass(frozen=True)
class Rows:
    """Rows in memory.

    ids: int64 [N, F], those of each field from 0; sizes: ids of each field;
    splits: where the rows to train end, those to choose by, those to test.
    """

    ids: Any
    dense: Any
    label: Any
    sizes: list[int]
    splits: list[int]

    def part(self, turn: int, batches: int) -> slice:
        """The rows of a turn; after the last ones come the first again."""
        per_pass = max(1, len(self.label) // (batches * BATCH))
        first = turn % per_pass * batches * BATCH
        return slice(first, first + batches * BATCH)


@dataclass(frozen=True)
class Settings:
    """Settings of a model and its training."""

    dim: int = DIM
    hidden: tuple[int, ...] = HIDDEN
    batch: int = BATCH
    rate: float = 1e-3
    dropout: float = 0.0
    l2: float = 0.0  # of embeddings, where the library has it
    seed: int = 1
    epochs: int = 1


class Contender(Protocol):
    """A model and its optimizer."""

    def train(self, rows: Any) -> Any:
        """One update a batch of these rows (a slice or numbers), in order."""

    def predict(self, rows: Any) -> Any:
        """Probabilities of a click."""


def read() -> Rows:
    """The rows that the command names."""
    folder = Path(sys.argv[1])
    ids, dense, label = (
        np.load(folder / f"{name}.npy") for name in ("ids", "dense", "label")
    )
    shape = json.loads((folder / "rows.json").read_text("utf-8"))
    return Rows(ids, dense, label, shape["sizes"], shape["splits"])


def batches(rows: Any, size: int) -> Iterator[Any]:
    """Rows of `Contender.train`, in parts of `size`."""
    if isinstance(rows, slice):
        for first in range(rows.start, rows.stop, size):
            yield slice(first, min(first + size, rows.stop))
    else:
        yield from np.split(rows, range(size, len(rows), size))


def named(rows: Rows) -> dict[str, Any]:
    """Each column by a name: C0 and on are ids, I0 and on numbers."""
    found = {f"C{i}": x for i, x in enumerate(rows.ids.T)}
    found |= {f"I{i}": x for i, x in enumerate(rows.dense.T)}
    return {name: np.ascontiguousarray(x) for name, x in found.items()}


def main(build: Callable[[Rows, Settings], Contender]) -> None:
    """Does what the command says with the contender that `build` makes."""
    rows = read()
    if "quality" in sys.argv:
        judge(rows, build)
        return
    contender = build(rows, Settings())
    serve(lambda turn, batches: contender.train(rows.part(turn, batches)))


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


def judge(rows: Rows, build: Callable[[Rows, Settings], Contender]) -> None:
    """Trains with the settings of each line of input."""
    print("ready", file=_answers)
    for line in sys.stdin:
        given = json.loads(line)
        given["hidden"] = tuple(given["hidden"])
        print(
            json.dumps(_judged(rows, build, Settings(**given))), file=_answers
        )


def _judged(
    rows: Rows,
    build: Callable[[Rows, Settings], Contender],
    settings: Settings,
) -> dict[str, Any]:
    """Predictions after the epoch that is best on the rows to choose by."""
    end, chosen, last = rows.splits
    random = np.random.default_rng(settings.seed)
    contender = build(rows, settings)
    best: dict[str, Any] = {"valid": np.inf, "epoch": 0}
    for epoch in range(1, settings.epochs + 1):
        contender.train(random.permutation(end))
        loss = _logloss(
            rows.label[end:chosen], contender.predict(slice(end, chosen))
        )
        if loss < best["valid"]:
            test = np.asarray(contender.predict(slice(chosen, last)), float)
            best = {"valid": loss, "epoch": epoch, "test": test.tolist()}
        elif epoch - best["epoch"] >= _PATIENCE:
            break
    return best


def _logloss(label: Any, predicted: Any) -> float:
    p = np.clip(np.asarray(predicted, np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(label > 0, np.log(p), np.log1p(-p))))
