"""Our wide and deep, `training/train_step.py` with Lion: disk or memory.

ours.py ROWS [disk] [PRECISION]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
import turns

from models.architectures.registry import build_model
from models.config.architectures import ModelConfig
from models.input_pipeline.dataset import Batches
from models.preprocessing.input_layout import IdFeature, Layout
from models.training.train_step import TrainStep
from optimizers import Lion


class Spec:
    """Feature spec of the examples on disk, as of Transform's output."""

    def __init__(self, rows: turns.Rows) -> None:
        self._widths = rows.ids.shape[1], rows.dense.shape[1]

    def transformed_feature_spec(self) -> dict[str, Any]:
        ids, dense = self._widths
        return {
            "ids": tf.io.FixedLenFeature([ids], tf.int64),
            "dense": tf.io.FixedLenFeature([dense], tf.float32),
            "label": tf.io.FixedLenFeature([], tf.int64),
        }


def from_memory(rows: turns.Rows) -> Any:
    """The same batches, cut already, again and again."""
    count = len(rows.label) // turns.BATCH
    whole = slice(count * turns.BATCH)
    label = rows.label[whole]
    inputs = {"ids": rows.ids[whole], "dense": rows.dense[whole]}
    data = tf.data.Dataset.from_tensor_slices(
        (
            {
                name: tf.reshape(x, [count, turns.BATCH, x.shape[1]])
                for name, x in inputs.items()
            },
            tf.reshape(label, [count, turns.BATCH]),
        )
    )
    return data.repeat().prefetch(tf.data.AUTOTUNE)


def from_disk(rows: turns.Rows) -> Any:
    """As a training reads them."""
    files = str(Path(sys.argv[1]) / "examples-*")
    spec: Any = Spec(rows)
    return Batches([files], spec, turns.BATCH, 100_000, 1).stream()


def main() -> None:
    rows = turns.read()
    if "mixed_bfloat16" in sys.argv:
        keras.config.set_dtype_policy("mixed_bfloat16")
    layout = Layout(
        tuple(
            IdFeature(f"C{i}", size, turns.DIM)
            for i, size in enumerate(rows.sizes)
        ),
        (),
        tuple(f"I{i}" for i in range(rows.dense.shape[1])),
    )
    config = ModelConfig(hidden=turns.HIDDEN)
    model = build_model(layout, config, float(rows.label.mean()))
    optimizer = Lion(1e-4)
    optimizer.build(model.trainable_variables)
    steps = TrainStep(
        model, optimizer, False, 1.0, tf.distribute.get_strategy()
    )
    data = from_disk(rows) if "disk" in sys.argv else from_memory(rows)
    batches = iter(data)
    turns.serve(lambda _, count: steps.run(batches, count))


if __name__ == "__main__":
    main()
