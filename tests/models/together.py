"""Trains a small model on several replicas, in a process of its own.

    python -m tests.models.together {mirrored,workers} EXAMPLES OUT CASE...

`workers` reads TF_CONFIG. OUT, an .npz, gets of each case `<case>/<name>` for
all that training changed, and `<case>/whole tables`: operations that make a
tensor of a table's size.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from models.training import train_step
from tests.models import training

CASES: dict[str, dict[str, Any]] = {
    "lion": {
        "negatives": {"keep": 0.25, "reweight": True},
        "epochs": 2,
        "embedding_l2": 1e-3,
        "optimizer": {"name": "lion", "learning_rate": 0.01},
    },
    "adam": {
        "epochs": 3,
        "optimizer": {"name": "adam", "learning_rate": 0.01, "clipnorm": 0.1},
        # Stops in the second epoch: an improvement of 0.1 is much.
        "early_stopping": {"patience": 1, "min_delta": 0.1},
        "eval_steps": 10,
    },
    "warm": {
        "epochs": 2,
        "negatives": {"keep": 0.5},
        "optimizer": {"name": "adam", "learning_rate": 0.01, "use_ema": True},
        "base": "state",
    },
}
# Weights that the warm one starts from.
BEFORE = {**CASES["warm"], "base": None, "state": "state", "negatives": {}}
TABLE_ROWS = 500 + 40 + 9


def settings(case: str) -> dict[str, Any]:
    """Arguments of `training.train`, for a case."""
    # Dropout draws a mask for each replica: other weights than alone.
    once = {"dropout": 0.0, "epochs": 1, "observe_steps": 10}
    return {**once, **CASES[case]}


def whole_tables(graph: Any) -> list[str]:
    """Operations, of all functions, that make a tensor of a whole table.

    Not the reads: TensorFlow reads a mirrored table to gather rows from it.
    """
    return [
        operation.type
        for one in (graph, *(f.graph for f in _functions(graph)))
        for operation in one.get_operations()
        for output in operation.outputs
        if output.shape.rank
        and output.shape[0] == TABLE_ROWS
        and operation.type != "ReadVariableOp"
    ]


def _functions(graph: Any) -> Iterator[Any]:
    for function in graph._functions.values():
        yield function
        yield from _functions(function.graph)


def main(kind: str, examples: str, out: str, *cases: str) -> None:
    """Trains every case and saves what came out."""
    if kind == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
    graphs: list[Any] = []
    of_all = train_step.TrainStep._next_step

    def noted(*arguments: Any) -> Any:
        graphs.append(tf.compat.v1.get_default_graph())
        return of_all(*arguments)

    train_step.TrainStep._next_step = noted  # type: ignore[assignment]
    strategy = "mirrored" if kind == "mirrored" else "multi_worker"
    saved: dict[str, Any] = {}
    if kind == "mirrored":  # a model of other sizes, as `compare` trains first
        other = {**settings("lion"), "model": "dcn_v2", "strategy": strategy}
        training.train(Path(examples), None, other)
    for case in cases:
        graphs.clear()
        result, found = training.train(
            Path(examples),
            # All workers read what the chief has written.
            Path(out).parent / f"{kind}-{case}",
            {**settings(case), "strategy": strategy},
        )
        saved |= {f"{case}/{name}": value for name, value in found.items()}
        saved[f"{case}/whole tables"] = whole_tables(graphs[-1])
        saved[f"{case}/steps"] = [result.steps, result.examples]
        saved[f"{case}/logloss"] = result.eval_logloss
    np.savez(out, **saved)


if __name__ == "__main__":
    main(*sys.argv[1:])
