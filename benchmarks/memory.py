"""Peak memory of each stage of a training with a large table.

    python benchmarks/memory.py [--gib 4]

Two features of ids share a table of 16 numbers a row, of that size; Lion has
one slot. A stage's peak is that of the whole process, TensorFlow included.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

_BATCH, _STEPS = 4096, 40
_DIM = 16
_GIB = 1 << 20  # of the kernel's kB


class Peaks:
    """Prints the peak since the last stage, and what is still held."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def stage(self, name: str) -> None:
        """Ends a stage."""
        status = dict(
            line.split(":", 1)
            for line in Path("/proc/self/status").read_text().splitlines()
        )
        peak, now = (
            int(status[key].split()[0]) / _GIB for key in ("VmHWM", "VmRSS")
        )
        seconds = time.perf_counter() - self._began
        print(
            f"{name:<24} peak {peak:6.2f} GiB, then {now:6.2f}"
            f"  {seconds:6.1f} s",
            flush=True,
        )
        Path("/proc/self/clear_refs").write_text("5")
        self._began = time.perf_counter()


def examples(rows: int) -> Any:
    """Random rows, the same each pass."""

    def batches() -> Iterator[Any]:
        rng = np.random.default_rng(1)
        for _ in range(_STEPS):
            ids = rng.integers(0, rows // 2, (_BATCH, 2))
            dense = rng.normal(size=(_BATCH, 1)).astype(np.float32)
            label = (rng.random(_BATCH) < 0.3).astype(np.float32)
            yield {"ids": ids, "dense": dense}, label

    columns = {
        "ids": tf.TensorSpec([None, 2], tf.int64),
        "dense": tf.TensorSpec([None, 1]),
    }
    return tf.data.Dataset.from_generator(
        batches, output_signature=(columns, tf.TensorSpec([None]))
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gib", type=float, default=4.0)
    options = parser.parse_args()

    from models.architectures.registry import build_model
    from models.checkpointing.checkpoint import Checkpoints, named_variables
    from models.config.architectures import ModelConfig
    from models.config.training import EarlyStopping, TrainConfig
    from models.preprocessing.input_layout import IdFeature, Layout
    from models.trainer import _export_id
    from models.training import loop
    from optimizers.registry import build_optimizer

    rows = int(options.gib * (1 << 30) / _DIM / 4)
    peaks = Peaks()
    peaks.stage("TensorFlow")
    half = rows // 2
    features = (IdFeature("a", half, _DIM), IdFeature("b", rows - half, _DIM))
    layout = Layout(features, (), ("x",))
    model = build_model(layout, ModelConfig(), 0.3)
    peaks.stage("model")
    optimizer = build_optimizer({"name": "lion"}, _STEPS)
    config = TrainConfig(
        batch_size=_BATCH,
        checkpoint_steps=_STEPS // 2,
        early_stopping=EarlyStopping(),
    )
    data = examples(rows)
    with tempfile.TemporaryDirectory() as folder:
        kept = f"{folder}/checkpoints"
        loop.train(
            model,
            optimizer,
            data,
            data.take(4),
            _BATCH * _STEPS,
            config,
            checkpoints=kept,
        )
        peaks.stage("training, checkpoints")
        Checkpoints(kept).restore(named_variables(model, optimizer))
        peaks.stage("reading a checkpoint")
        Checkpoints(kept).clear()
        _export_id(model)
        peaks.stage("name of the export")
        del optimizer
        gc.collect()
        peaks.stage("slots gone")
        served = tf.Module()
        served.model = model
        served.score = tf.function(
            lambda ids, dense: model({"ids": ids, "dense": dense}),
            input_signature=[
                tf.TensorSpec([None, 2], tf.int64),
                tf.TensorSpec([None, 1]),
            ],
        )
        tf.saved_model.save(served, f"{folder}/model")
        peaks.stage("SavedModel")


if __name__ == "__main__":
    main()
