"""Training steps on sequences: the attention of `din` beside pooling.

Criteo's shape, 26 ids, 13 numbers, embeddings of 16, hidden layers of 256 and
128, and a sequence of up to 50 items that shares the first feature's table;
lengths even from 0 to 50. `dcn_v2` and `wide_deep` see the items' mean. All
have the settings that `auto` gives and take turns on the same batch: medians of
their steps; `ratio` is their rate beside that of `dcn_v2`, by CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks import measure
from benchmarks.perf.step import automatic, turns
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
) -> dict[str, list[measure.Seconds]]:
    """Architecture -> seconds of a step in each turn."""
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
    width = (_FIELDS + 1) * _DIM + _DENSE
    works = {}
    for name in names:
        section = ModelConfig.model_validate(automatic(name, batch, width))
        model = build_model(layout, section, 0.25)
        optimizer = Lion(1e-4)
        optimizer.build(model.trainable_variables)
        strategy = tf.distribute.get_strategy()
        step = TrainStep(model, optimizer, False, 1.0, strategy)
        data = iter(tf.data.Dataset.from_tensors(rows).repeat())
        works[name] = lambda step=step, data=data: step.run(data, count)
    return turns(works, repeats, count)


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
    cpu = {name: median(one.cpu for one in some) for name, some in took.items()}
    for name, some in took.items():
        wall = median(one.wall for one in some)
        table.line(
            name,
            ms=1e3 * wall,
            cpu_ms=1e3 * cpu[name],
            rows_per_s=batch / wall,
            ratio=cpu["dcn_v2"] / cpu[name],
        )
    return table
