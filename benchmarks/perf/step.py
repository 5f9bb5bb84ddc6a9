"""Where the time of a training step goes, against the cores' limit.

Wide and deep of Criteo's shape: 26 ids, 13 numbers, embeddings of 16, hidden
layers of 256 and 128, batches of 4096, Lion. Each part runs alone on the same
tensors, medians; what is left of the step is overhead: elementwise work,
copies, TensorFlow's scheduling. The limit is the step's multiplications at
the rate of one large matrix product on the same cores.

Then the other architectures, with the settings that `auto` gives, in batches of
512: medians of turns, and their rate beside that of wide and deep, by CPU.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from benchmarks import measure
from benchmarks.perf.table import Table

SMOKE = {"repeats": 1, "table_rows": 2600, "batch": 64, "names": "dcn_v2"}
_FIELDS, _DENSE, _DIM = 26, 13, 16
_LAYERS = (_FIELDS * _DIM + _DENSE, 256, 128, 1)
_LARGE = 2048
_STEPS = 20  # of one call


def seconds(work: Callable[[], Any], repeats: int, inside: int = 1) -> float:
    """Median seconds of one of the `inside` repetitions in `work`."""
    work()
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) / inside)
    return statistics.median(took)


def products(batch: int, dtype: Any) -> Callable[[], Any]:
    """All matrix products of a step: forward, of weights, of inputs."""
    import tensorflow as tf

    shapes = list(pairwise(_LAYERS))
    x = [tf.random.normal([batch, a], dtype=dtype) for a, _ in shapes]
    w = [tf.random.normal(shape, dtype=dtype) for shape in shapes]
    d = [tf.random.normal([batch, b], dtype=dtype) for _, b in shapes]

    @tf.function
    def run() -> Any:
        return [
            [
                tf.matmul(a, b),
                tf.matmul(a, c, transpose_a=True),
                tf.matmul(c, b, transpose_b=True),
            ]
            for a, b, c in zip(x, w, d, strict=True)
        ]

    return run


def rows_of(size: int, batch: int) -> Any:
    """A batch of Criteo's shape, `size` ids a feature: inputs and labels."""
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(1)
    ids = (rng.zipf(1.2, (batch, _FIELDS)) % size).astype(np.int64)
    return (
        {
            "ids": tf.constant(ids),
            "dense": tf.random.normal([batch, _DENSE]),
        },
        tf.constant((rng.random(batch) < 0.25).astype(np.float32)),
    )


def trained(
    size: int, section: dict[str, Any], rows: Any
) -> tuple[Any, Callable[[], Any]]:
    """A model of a config's section, and what makes _STEPS of its steps."""
    import tensorflow as tf

    from models.architectures.registry import build_model
    from models.config.architectures import ModelConfig
    from models.preprocessing.input_layout import IdFeature, Layout
    from models.training.train_step import TrainStep
    from optimizers import Lion

    layout = Layout(
        tuple(IdFeature(f"C{i}", size, _DIM) for i in range(_FIELDS)),
        (),
        tuple(f"I{i}" for i in range(_DENSE)),
    )
    model = build_model(layout, ModelConfig.model_validate(section), 0.25)
    optimizer = Lion(1e-4)
    optimizer.build(model.trainable_variables)
    step = TrainStep(model, optimizer, False, 1.0, tf.distribute.get_strategy())
    data = iter(tf.data.Dataset.from_tensors(rows).repeat())
    return model, lambda: step.run(data, _STEPS)


def beside(
    repeats: int, table_rows: int, batch: int, names: Sequence[str]
) -> dict[str, list[measure.Seconds]]:
    """Architecture -> seconds of a step in each turn."""
    size = table_rows // _FIELDS
    rows = rows_of(size, batch)
    works = {
        name: trained(size, automatic(name, batch, _LAYERS[0]), rows)[1]
        for name in names
    }
    return turns(works, repeats, _STEPS)


def automatic(name: str, batch: int, width: int) -> dict[str, Any]:
    """Section `model` of an architecture, as `auto` has it at a width."""
    from models.config.architectures import ModelConfig
    from models.training.automatic import choose

    given = {
        "model": ModelConfig.model_validate({"name": name}).asked(),
        "optimizer": {"name": "lion"},
        "train": {"batch_size": batch},
    }
    section: dict[str, Any] = choose(given, 10**6, 1, width=width)[0]["model"]
    return section


def turns(
    works: Mapping[str, Callable[[], object]], repeats: int, steps: int
) -> dict[str, list[measure.Seconds]]:
    """Name -> seconds of a step in each turn, of work of so many steps."""
    took: dict[str, list[measure.Seconds]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            watch = measure.Stopwatch()
            work()
            wall, cpu = watch.seconds()
            if turn:  # the first traces
                took[name].append(measure.Seconds(wall / steps, cpu / steps))
    return took


def parts(repeats: int, table_rows: int, batch: int) -> dict[str, float]:
    """Seconds of the step and of its parts; GFLOP/s of a large product."""
    import numpy as np
    import tensorflow as tf

    from optimizers import ops

    size = table_rows // _FIELDS
    rows = rows_of(size, batch)
    model, steps = trained(size, {"name": "wide_deep"}, rows)
    flat = tf.reshape(rows[0]["ids"] + np.arange(_FIELDS) * size, [-1])
    gradient = tf.random.normal([batch * _FIELDS, _DIM])
    tables = [v for v in model.trainable_variables if "table" in v.path]
    copies = [
        (tf.Variable(t.numpy()), tf.Variable(tf.zeros(t.shape))) for t in tables
    ]

    @tf.function
    def gather() -> Any:
        return [tf.reduce_sum(tf.gather(t.value, flat)) for t in tables]

    @tf.function
    def update() -> None:
        for table, momentum in copies:
            ops.resource_sparse_apply_lion(
                table,
                momentum,
                1e-4,
                0.9,
                0.99,
                0.0,
                gradient[:, : table.shape[1]],
                flat,
            )

    forward = tf.function(lambda: model(rows[0], training=False))
    large = tf.random.normal([_LARGE, _LARGE])
    large_seconds = seconds(lambda: large @ large, repeats)
    whole = seconds(steps, repeats, _STEPS)
    return {
        "whole": whole,
        "matrix products": seconds(products(batch, tf.float32), repeats),
        "matrix products, bfloat16": seconds(
            products(batch, tf.bfloat16), repeats
        ),
        "rows read": seconds(gather, repeats),
        "Lion on the tables": seconds(update, repeats),
        "forward pass": seconds(forward, repeats),
        "gflop_per_s": 2 * _LARGE**3 / large_seconds / 1e9,
    }


def run(
    repeats: int = 15,
    table_rows: int = 400_000,
    batch: int = 4096,
    names: str = "wide_deep,dcn_v2,deepfm,dlrm",
) -> Table:
    """Measure a step, and each of its parts alone."""
    table = Table(f"Training step, {table_rows:,} rows of tables")
    took = measure.alone(parts, repeats, table_rows, batch)
    whole = took["whole"]
    table.line("step", ms=1e3 * whole, rows_per_s=batch / whole)
    left = whole
    for name in ("matrix products", "rows read", "Lion on the tables"):
        left -= took[name]
        table.line(name, ms=1e3 * took[name], share=took[name] / whole)
    table.line("all else", ms=1e3 * left, share=left / whole)
    flops = 6 * batch * sum(a * b for a, b in pairwise(_LAYERS))
    limit = flops / took["gflop_per_s"] / 1e9
    table.line("a large product", gflop_per_s=took["gflop_per_s"])
    table.line("the step at this rate", ms=1e3 * limit, share=limit / whole)
    for name in ("matrix products, bfloat16", "forward pass"):
        table.line(f"{name}, alone", ms=1e3 * took[name])
    small = min(batch, 512)
    turns = measure.alone(beside, repeats, table_rows, small, names.split(","))
    cpu = {
        name: statistics.median(one.cpu for one in some)
        for name, some in turns.items()
    }
    first = next(iter(cpu.values()))
    for name, some in turns.items():
        wall = statistics.median(one.wall for one in some)
        table.line(
            f"{name}, batches of {small}",
            ms=1e3 * wall,
            cpu_ms=1e3 * cpu[name],
            ratio=first / cpu[name],
        )
    return table
