"""Training steps on sequences: the attention of `din` beside pooling.

Criteo's shape, 26 ids, 13 numbers, embeddings of 16, hidden layers of 256 and
128, and a sequence of up to 50 items that shares the first feature's table;
lengths even from 0 to 50. `dcn_v2` and `wide_deep` see the items' mean.
Architectures take turns on the same batch, medians of their steps; `ratio` is
their rate beside that of `dcn_v2`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks import measure
from benchmarks.perf.step import seconds
from benchmarks.perf.table import Table

SMOKE = {
    "repeats": 1,
    "table_rows": 2600,
    "batch": 64,
    "steps_a_turn": 1,
    "names": "dcn_v2,din",
}
_FIELDS, _DENSE, _DIM, _MOST = 26, 13, 16, 50


def steps(
    repeats: int, table_rows: int, batch: int, count: int, names: Sequence[str]
) -> dict[str, float]:
    """Architecture -> seconds of a step."""
    import numpy as np
    import tensorflow as tf

    from models.architectures.registry import build_model
    from models.config.architectures import ModelConfig
    from models.preprocessing.input_layout import (
        IdFeature,
        Layout,
        SequenceInput,
    )
    from models.training.train_step import TrainStep
    from optimizers import Lion

    size = table_rows // _FIELDS
    layout = Layout(
        tuple(IdFeature(f"C{i}", size, _DIM) for i in range(_FIELDS)),
        (IdFeature("history", size, _DIM, table="C0"),),
        tuple(f"I{i}" for i in range(_DENSE)),
        sequences=(SequenceInput(("history",), ("C0",), (), _MOST),),
    )
    rng = np.random.default_rng(1)
    ids = (rng.zipf(1.2, (batch, _FIELDS)) % size).astype(np.int64)
    lengths = rng.integers(0, _MOST + 1, batch)
    items = (rng.zipf(1.2, lengths.sum()) % size).astype(np.int64)
    rows: tuple[dict[str, Any], Any] = (
        {
            "ids": tf.constant(ids),
            "dense": tf.random.normal([batch, _DENSE]),
            "list_history": tf.RaggedTensor.from_row_lengths(items, lengths),
        },
        tf.constant((rng.random(batch) < 0.25).astype(np.float32)),
    )
    turns: dict[str, list[float]] = {name: [] for name in names}
    made = {}
    for name in names:
        model = build_model(layout, ModelConfig(name=name), 0.25)
        optimizer = Lion(1e-4)
        optimizer.build(model.trainable_variables)
        strategy = tf.distribute.get_strategy()
        step = TrainStep(model, optimizer, False, 1.0, strategy)
        data = iter(tf.data.Dataset.from_tensors(rows).repeat())
        made[name] = lambda step=step, data=data: step.run(data, count)
    for _ in range(repeats):
        for name, work in made.items():
            turns[name].append(seconds(work, 1, count))
    return {name: float(np.median(took)) for name, took in turns.items()}


def run(
    repeats: int = 5,
    table_rows: int = 400_000,
    batch: int = 512,
    steps_a_turn: int = 20,
    names: str = "wide_deep,dcn_v2,din,bst",
) -> Table:
    """Measure a step of each architecture on rows with sequences."""
    table = Table(f"Training on sequences of up to {_MOST}, batches of {batch}")
    took = measure.alone(
        steps, repeats, table_rows, batch, steps_a_turn, names.split(",")
    )
    for name, some in took.items():
        table.line(
            name,
            ms=1e3 * some,
            rows_per_s=batch / some,
            ratio=took["dcn_v2"] / some,
        )
    return table
