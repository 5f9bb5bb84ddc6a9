"""Peak memory of each stage of a training with a large table.

Two features of ids share a table of 16 numbers a row, of that size; Lion has
one slot. A stage's peak is that of the whole process, TensorFlow included.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import measure
from benchmarks.perf.table import Table

SMOKE = {"gib": 0.001, "steps": 4}
_BATCH, _DIM = 4096, 16
_GIB = 1 << 20  # of the kernel's kB


class Stage(NamedTuple):
    """Name, peak and held GiB, seconds."""

    name: str
    peak: float
    held: float
    seconds: float


class Peaks:
    """Stages of this process so far."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self._watch = measure.Stopwatch()

    def stage(self, name: str) -> None:
        """End a stage."""
        status = dict(
            line.split(":", 1)
            for line in Path("/proc/self/status").read_text().splitlines()
        )
        peak, now = (
            int(status[key].split()[0]) / _GIB for key in ("VmHWM", "VmRSS")
        )
        wall = self._watch.seconds().wall
        self.stages.append(Stage(name, peak, now, wall))
        Path("/proc/self/clear_refs").write_text("5")
        self._watch = measure.Stopwatch()


def batches(rows: int, steps: int) -> Any:
    """Random rows, the same each pass."""
    import numpy as np
    import tensorflow as tf

    def drawn() -> Iterator[Any]:
        rng = np.random.default_rng(1)
        for _ in range(steps):
            ids = rng.integers(0, rows // 2, (_BATCH, 2))
            dense = rng.normal(size=(_BATCH, 1)).astype(np.float32)
            label = (rng.random(_BATCH) < 0.3).astype(np.float32)
            yield {"ids": ids, "dense": dense}, label

    columns = {
        "ids": tf.TensorSpec([None, 2], tf.int64),
        "dense": tf.TensorSpec([None, 1]),
    }
    return tf.data.Dataset.from_generator(
        drawn, output_signature=(columns, tf.TensorSpec([None]))
    )


def stages(gib: float, steps: int) -> list[Stage]:
    """Train, checkpoint and export a model with a table of this size."""
    import tensorflow as tf

    from models.architectures.registry import build_model
    from models.checkpointing.checkpoint import Checkpoints
    from models.config.architectures import ModelConfig
    from models.config.training import EarlyStopping, TrainConfig
    from models.export import weights_digest
    from models.preprocessing.input_layout import IdFeature, Layout
    from models.training import loop
    from models.variables import named_variables
    from optimizers.registry import build_optimizer

    rows = int(gib * (1 << 30) / _DIM / 4)
    peaks = Peaks()
    peaks.stage("TensorFlow")
    half = rows // 2
    features = (IdFeature("a", half, _DIM), IdFeature("b", rows - half, _DIM))
    layout = Layout(features, (), ("x",))
    model = build_model(layout, ModelConfig(), 0.3)
    peaks.stage("model")
    optimizer = build_optimizer({"name": "lion"}, steps)
    config = TrainConfig(
        batch_size=_BATCH,
        checkpoint_steps=steps // 2,
        early_stopping=EarlyStopping(),
    )
    data = batches(rows, steps)
    with tempfile.TemporaryDirectory() as folder:
        kept = f"{folder}/checkpoints"
        loop.train(
            model,
            optimizer,
            data,
            data.take(4),
            _BATCH * steps,
            config,
            checkpoints=kept,
        )
        peaks.stage("training, checkpoints")
        Checkpoints(kept).restore(named_variables(model, optimizer))
        peaks.stage("reading a checkpoint")
        Checkpoints(kept).clear()
        weights_digest(model)
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

    return peaks.stages


def run(gib: float = 1.0, steps: int = 40) -> Table:
    """Measure a table of `gib` GiB; checkpoints come in the middle."""
    table = Table(f"Memory of a training, {gib:g} GiB of tables")
    found = measure.alone(stages, gib, steps)
    for one in found:
        table.line(one.name, gib=one.peak, seconds=one.seconds)
    table.line("highest peak", gib=max(one.peak for one in found))
    return table
